"""Two studies of loss sharpness, from data to figures. `make help` and README.md say how to run it."""


include: "workflow/rules/main.smk"


rule all:
    default_target: True
    input:
        EVERYTHING,
    localrule: True
