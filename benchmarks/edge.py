"""Curvature against the edge of stability along trainings: `python -m benchmarks.edge CONFIG`.

Gradient descent on a quadratic is stable while its largest curvature λ_max < 2/lr. The loss that is
trained is PyTorch's MSELoss, whose Hessian is 2/N of that of ½‖f(x) − y‖². Prints a row for each
checkpoint whose weights are kept (`chen.keep_trajectories`, or Snakemake's `--notemp`).
"""

import sys
from pathlib import Path

import torch

import flatness
from flatness.pipeline.run import load_config
from flatness.records import layout
from flatness.records.checkpoints import checkpoint_name, load_checkpoints
from flatness.records.tables import read_table
from flatness.studies.chen import config as chen
from flatness.studies.chen.crossings import interpolates
from flatness.studies.chen.images import build_network, load_images, measured_samples
from flatness.studies.chen.rows import TrainedCheckpoint

#: First step looked at, training images that the Hessian is of, accuracy of its largest eigenvalue.
FIRST, IMAGES, CLOSE = 700, 500, 1e-2


def main(path: str) -> None:
    """Prints the table of a config's families."""
    torch.set_num_threads(1)
    settings = load_config(Path(path))
    results = layout.results_of(settings.name)
    print("family,setting,seed,step,train_loss,interpolated,top_eigenvalue,times_rate_over_2")
    for name, family in settings.chen.families.items():
        for setting in family.settings:
            for block in family.trend_blocks:
                place = {"family": name, "setting": setting.name, "block": block}
                files = [
                    results / pattern.format(**place)
                    for pattern in (
                        layout.CHEN_WEIGHTS,
                        layout.CHEN_TRAJECTORY,
                        layout.CHEN_TRAINED,
                    )
                ]
                if not all(file.exists() for file in files):
                    continue
                experiment = chen.measurement(settings.chen, name, setting.name, block, "cpu")
                data = Path("data") / f"{family.dataset}.safetensors"
                images = load_images(data, experiment).train
                images = measured_samples(images, min(IMAGES, len(images)))
                models = load_checkpoints(files[0])[0] | load_checkpoints(files[1])[0]
                trained = read_table(files[2], TrainedCheckpoint)
                for line in trained[trained["step"] >= FIRST].to_dict("records"):
                    model = build_network(experiment, seed=0).eval()
                    model.load_state_dict(models[checkpoint_name(line["seed"], line["step"])])
                    hessian = flatness.hessian(model, images.inputs, images.targets, loss="mse")
                    top = hessian.top_eigenvalue(tolerance=CLOSE)
                    done = interpolates(line["train_loss"], line["train_accuracy"])
                    share = top * setting.learning_rate / 2
                    print(
                        f"{name},{setting.name},{line['seed']},{line['step']},"
                        f"{line['train_loss']:.3g},{done},{top:.4g},{share:.3f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main(sys.argv[1])
