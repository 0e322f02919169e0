# Data sets, downloaded, read from a mirror or (demo) generated: verified and normalised.


rule fetch:
    output:
        data_file("{dataset}"),
    log:
        "data/logs/{dataset}.log",
    retries: 2
    localrule: True
    conda:
        ENVIRONMENT
    params:
        code=lambda wildcards: version_of("fetch", dataset_module(wildcards.dataset)),
    message:
        "Fetch {wildcards.dataset}"
    shell:
        step("fetch --dataset {wildcards.dataset} --output {output:q}")
