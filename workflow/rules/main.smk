"""The whole workflow except the default rule, which must be in the Snakefile that is run."""

from snakemake.utils import min_version

min_version("9.27")

# A config given on the command line replaces the demo; merging the two would mix experiments. A
# config that only sets the device does not.
if not config.keys() - {"device"}:

    configfile: "config/demo.yaml"


include: "common.smk"
include: "slices.smk"
include: "fetch.smk"
include: "train.smk"
include: "measure.smk"
include: "correlate.smk"
include: "draw.smk"
include: "report.smk"


for tier, asked in CONFIG.tiers.items():

    rule:
        name:
            f"{CONFIG.name}_{tier}"
        input:
            tier_files(asked),
        localrule: True


# Input of the rule `all`.
EVERYTHING = [
    rules.epfl.input,
    rules.chen.input,
    rules.transformers.input,
    rules.cross.input,
    rules.reports.input,
]


onsuccess:
    cancel_timers()


onerror:
    cancel_timers()
