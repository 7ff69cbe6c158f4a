"""Python SDK v1 finds it, and registers the next version."""

from azureml.core import Environment, Workspace

ws = Workspace.from_config()
env = Environment.get(ws, "shared")
assert (env.version, env.docker.base_image, env.python.user_managed_dependencies) == ("1", "ubuntu:22.04", False), env
assert "six==1.17.0" in env.python.conda_dependencies.serialize_to_string(), env
assert sorted(Environment.list(ws)) == sorted(ws.environments) == ["built", "shared"]
context = Environment.get(ws, "built").docker.build_context
assert (context.location_type.name, context.dockerfile_path) == ("StorageAccount", "Dockerfile") and "/LocalUpload/" in context.location, vars(context)
following = Environment("shared")
following.docker.base_image = "alpine"
following.python.user_managed_dependencies = True
assert following.register(ws).version == "2"
