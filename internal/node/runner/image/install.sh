# Makes an environment at $1 from the files beside this script: with micromamba,
# mamba or conda where the image has one, else with its Python 3 and pip.
set -eu
place=$1
here=$(dirname "$0")
cd /tmp
wanted=$(cat "$here/python.txt")
export HOME=/tmp PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
if [ -s "$here/left-out.txt" ]; then
	echo "Left out, because this machine does not know the host:"
	cat "$here/left-out.txt"
	echo
fi

conda=
if [ -s "$here/environment.yaml" ]; then
	for tool in micromamba mamba conda /opt/miniconda/bin/conda /opt/conda/bin/conda; do
		if command -v "$tool" >/dev/null 2>&1; then
			conda=$(command -v "$tool")
			break
		fi
	done
fi
if [ -n "$conda" ]; then
	echo "Making the environment with $conda:"
	cat "$here/environment.yaml"
	echo
	cp "$here/environment.yaml" /tmp/environment.yaml
	case $conda in
	*micromamba) "$conda" create --yes --quiet --prefix "$place" --file /tmp/environment.yaml ;;
	*) "$conda" env create --quiet --prefix "$place" --file /tmp/environment.yaml ;;
	esac
	rm -f /tmp/environment.yaml
	exit 0
fi

python=
for name in "python$(echo "$wanted" | cut -d. -f1-2)" python3 python; do
	if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info[0] != 3)'; then
		python=$(command -v "$name")
		break
	fi
done
if [ -z "$python" ]; then
	echo "ERROR: The image has neither conda nor Python 3, so no packages can be installed into it."
	exit 81
fi
has=$("$python" -c 'import platform; print(platform.python_version())')
echo "Making the environment with $python (Python $has)"
case $has. in
"$(echo "$wanted" | cut -d. -f1-2)".*) ;;
*) if [ -n "$wanted" ]; then echo "Python $wanted was asked for; the image has no conda, and its Python is $has."; fi ;;
esac
mkdir -p "$(dirname "$place")"
if "$python" -m venv "$place" >/tmp/venv.log 2>&1; then
	:
elif rm -rf "$place" && "$python" -m virtualenv "$place" >>/tmp/venv.log 2>&1; then
	:
elif rm -rf "$place" && "$python" -m venv --without-pip "$place" >>/tmp/venv.log 2>&1 &&
	"$python" -m pip --python "$place/bin/python" install --ignore-installed pip >>/tmp/venv.log 2>&1; then
	:
else
	cat /tmp/venv.log
	echo "ERROR: The image's Python has neither venv with ensurepip, nor virtualenv, nor pip, so no packages can be installed into it."
	exit 82
fi
rm -f /tmp/venv.log
echo "Installing packages:"
cat "$here/requirements.txt" "$here/conda.txt"
"$place/bin/python" -m pip install -r "$here/requirements.txt" -r "$here/conda.txt"
