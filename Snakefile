"""Two studies of loss sharpness, from data to figures. `make help` and README.md say how to run it."""

from snakemake.utils import min_version

min_version("9.27")

# A config given on the command line replaces the demo; merging the two would mix experiments. The
# device alone is no experiment.
if not config.keys() - {"device"}:

    configfile: "config/demo.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/slices.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/correlate.smk"
include: "workflow/rules/draw.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.epfl.input,
        rules.chen.input,
        rules.transformers.input,
        rules.cross.input,
        rules.reports.input,
    localrule: True


onsuccess:
    cancel_timers()


onerror:
    cancel_timers()
