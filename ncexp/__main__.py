"""The command `ncexp`. Everything slow is imported after the question what is asked for."""

from __future__ import annotations

import gc
import importlib
import sys

HELP = """\
ncexp: train a classifier past zero error, watch neural collapse, record every metric and every term of the MSE
decomposition, draw the paper's figures.

  ncexp                                     the main job: a small ResNet on handwritten digits, MSE loss, 350 epochs
  ncexp loss=cross_entropy optimizer.lr=0.02 seed=3
                                            one choice per group, any value by its path
  ncexp -m loss=mse,cross_entropy optimizer.lr=0.01,0.05 epochs=50
                                            every combination, one run each
  ncexp architecture=mlp dataset=gaussian_mixture dataset.separation=8 epochs=100
                                            another network on another dataset
  ncexp --cfg job                           the whole configuration, without running it

Groups     dataset         digits, gaussian_mixture, mnist, fashion_mnist, cifar10, cifar100, svhn, stl10, imagenet,
                           unconstrained
           architecture    resnet, mlp, resnet18 ... 152, vgg11 ... 19, densenet40 ... 250, unconstrained_features
           loss            mse_mean, mse, cross_entropy, rescaled_mse, label_smoothing, focal
           optimizer       sgd, adam, adamw           optimizer/schedule  step, constant, cosine
           analysis        [neural_collapse, mse_decomposition, central_path], layers, robustness
           experiment      central_path, unconstrained_features, han2022/cifar10_resnet and its 14 kin
           sweep           quick, learning_rates, han2022
Run        seed  epochs  batch_size  analysis_epochs  device  outputs  rerun=failed|all|none
           precision=fp32|tf32|bf16  compile=true
           tracking.uri  tracking.experiment  tracking.enabled
Commands   ncexp list | prepare | status | logs | cancel | doctor | sync | ui | report | compare | export  (--help)
Sweeps     ncexp -m ... hydra/launcher=slurm|local    on a cluster, or here several at once; see docs/cluster.md
Own parts  ncexp --config-dir my_choices architecture=my_network        see docs/extending.md

Runs lie in outputs/, one directory each, named by what they are and a key of what determines their result. The same
command again goes on where it was stopped, or shows what is there. Hydra's own options: ncexp --hydra-help.
"""


#: Commands beside the run itself: word → module with a `main(arguments) -> exit code`, imported only when asked for.
COMMANDS: dict[str, str] = {
    "status": "ncexp.launching.status",
    "logs": "ncexp.launching.logs",
    "cancel": "ncexp.launching.cancel",
    "doctor": "ncexp.launching.doctor",
    "sync": "ncexp.tracking.sync",
    "ui": "ncexp.tracking.ui",
    "report": "ncexp.report.command",
    "compare": "ncexp.report.compare",
    "export": "ncexp.report.export",
    "prepare": "ncexp.commands.prepare",
    "list": "ncexp.commands.listing",
    "run-frozen": "ncexp.frozen_run",  # what a sweep starts: trains its runs one after another
}


def main() -> int:
    """Answer --help at once; call a command's module; hand everything else to Hydra."""
    gc.set_threshold(50_000)  # of torch's import the garbage collector takes a third, and finds nothing
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        code: int = importlib.import_module(COMMANDS[arguments[0]]).main(arguments[1:])
        return code
    if {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return 0
    from ncexp.command_line import launch

    return launch()


if __name__ == "__main__":
    sys.exit(main())
