"""Slices of the config, and files, by the wildcards of the rules that take them."""

# Of the EPFL rules.


def epfl_training(wildcards):
    settings = epfl.training(CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE)
    return CONFIG.epfl.of_block(settings, wildcards.block)


def epfl_measurement(wildcards):
    settings = epfl.measurement(
        CONFIG.epfl, wildcards.pool, wildcards.trained, wildcards.measured, DEVICE
    )
    return CONFIG.epfl.of_block(settings, wildcards.block)


def epfl_blocks(pattern, blocks=lambda pool: CONFIG.epfl.pools[pool].blocks):
    """All blocks of a pool, as an input function of the pattern's other wildcards."""
    return lambda wildcards: expand(pattern, block=blocks(wildcards.pool), **wildcards)


def epfl_tables(pattern, pools=CONFIG.epfl.pools):
    """The tables of every pool under the config's protocol, in the papers' order."""
    protocol = CONFIG.epfl.protocol
    return expand(
        pattern,
        pool=[pool for pool in CONFIG.epfl.pools if pool in pools],
        trained=protocol,
        measured=protocol,
    )


def epfl_audited(pattern):
    """The tables that a pool's audit reads, one a protocol and block."""
    return lambda wildcards: sorted(
        {
            expand(
                pattern,
                pool=wildcards.pool,
                trained=run.trained,
                measured=run.measured,
                block=block,
            )[0]
            for run in CONFIG.epfl.audit_plan(wildcards.pool).runs
            for block in run.blocks
        }
    )


# Blocks that hold the first models of a block of the main pool only -> that block.
EPFL_PARTS = {
    f"{pool}/written/{part}": f"{pool}/written/{block}"
    for pool in CONFIG.epfl.pools
    for part, block in CONFIG.epfl.parts(pool).items()
}


# The same for the rules of Chen, Recanatesi and Shea-Brown.


def chen_training(wildcards):
    return chen.training(
        CONFIG.chen, wildcards.family, wildcards.setting, wildcards.block, DEVICE
    )


def chen_code(module, family):
    """Version of the code behind a family's jobs: the module's and its own network's."""
    network = CONFIG.chen.families[family].network
    return code_version(module, f"flatness.networks.{network}")


# Files of one block's training, without their endings, whichever rule makes them.
CHEN_TRAINED = f"{RESULTS}/checkpoints/chen/{{family}}/{{setting}}/{{block}}"


def chen_data(wildcards):
    return data_file(CONFIG.chen.families[wildcards.family].dataset)


def chen_trajectory(paths):
    """Weights before the end of training, deleted once measured unless the config keeps them."""
    return paths if CONFIG.chen.keep_trajectories else temp(paths)


# The stacks that train on a GPU, by family: none where training goes in a loop.
CHEN_STACKS = [
    (family, stack)
    for family, chosen in CONFIG.chen.families.items()
    for stack in stacks(chosen)
    if DEVICE == "cuda"
]


def chen_stack(family, stack):
    return stacked_training(CONFIG.chen, family, stack, DEVICE)


def chen_stack_files(family, stack, ending):
    """One kind of file of all settings and blocks of a stack."""
    chosen = chen_stack(family, stack)
    return expand(
        f"{CHEN_TRAINED}.{ending}",
        family=family,
        setting=[setting.name for setting in chosen.settings],
        block=chosen.blocks,
    )


def chen_measurement(wildcards):
    return chen.measurement(
        CONFIG.chen, wildcards.family, wildcards.setting, wildcards.block, DEVICE
    )


def chen_blocks(wildcards):
    family = CONFIG.chen.families[wildcards.family]
    return expand(
        rules.measure_chen.output[0],
        family=wildcards.family,
        setting=[setting.name for setting in family.settings],
        block=family.blocks,
    )


# The same for the transformers.


def vit_training(wildcards):
    return transformers.training(CONFIG.transformers, wildcards.block, DEVICE)


def vit_measurement(wildcards):
    return transformers.measurement(CONFIG.transformers, wildcards.block, DEVICE)


def vit_options(wildcards, input):
    """Models trained here come with data and weights, pretrained ones through the environment."""
    return " ".join(f"--{name} {shlex.quote(path)}" for name, path in input.items())


# The same for the measures of each paper on the other's models.


def cross_family(wildcards):
    return cross.family_measurement(
        CONFIG.cross,
        CONFIG.chen,
        wildcards.family,
        wildcards.setting,
        wildcards.block,
        DEVICE,
    )


def cross_pool(wildcards):
    return cross.pool_measurement(
        CONFIG.cross, CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE
    )


def cross_tables(wildcards):
    """One table a block of every family and pool that is compared."""
    families = [
        path
        for name in CONFIG.cross.families
        for family in [CONFIG.chen.families[name]]
        for path in expand(
            rules.measure_cross_chen.output[0],
            family=name,
            setting=[setting.name for setting in family.settings],
            block=family.blocks,
        )
    ]
    pools = [
        path
        for name, pool in CONFIG.epfl.pools.items()
        for path in expand(
            rules.measure_cross_epfl.output[0],
            pool=name,
            trained=CONFIG.epfl.protocol,
            block=pool.blocks,
        )
    ]
    return families + pools
