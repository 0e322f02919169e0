"""The whole workflow but its default rule, which the Snakefile that is run must have itself."""

from snakemake.utils import min_version

min_version("9.27")

# A config given on the command line replaces the demo; merging the two would mix experiments. The
# device alone is no experiment.
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


# What the rule `all` asks for.
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
