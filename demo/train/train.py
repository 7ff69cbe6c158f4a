"""Learns to read handwritten digits: scikit-learn's 1,797 images of 8 x 8.

It prints and logs its accuracy, and leaves the model in outputs/.
"""
import argparse
import pathlib
import pickle

from azureml.core import Run
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--alpha", type=float, default=0.001)
args = parser.parse_args()

run = Run.get_context()
digits = load_digits()
print(f"{len(digits.images)} images of {digits.images.shape[1]} x {digits.images.shape[2]}", flush=True)
train_x, test_x, train_y, test_y = train_test_split(
    digits.data / 16.0, digits.target, test_size=0.25, random_state=0, stratify=digits.target
)

model = SGDClassifier(loss="log_loss", alpha=args.alpha, random_state=0)
for epoch in range(1, args.epochs + 1):
    model.partial_fit(train_x, train_y, classes=range(10))
    accuracy = model.score(test_x, test_y)
    print(f"epoch {epoch:2d}: accuracy {accuracy:.4f}", flush=True)
    run.log("accuracy", accuracy)

out = pathlib.Path("outputs")
out.mkdir(exist_ok=True)
(out / "model.pkl").write_bytes(pickle.dumps(model))
print(f"final accuracy {accuracy:.4f} on {len(test_y)} images it had not seen", flush=True)
