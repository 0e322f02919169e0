"""Slices of the config, and files, by the wildcards of the rules that use them."""

# Of the EPFL rules.


def epfl_training(wildcards):
    settings = epfl.training(CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE)
    return CONFIG.epfl.of_block(settings, wildcards.block)


def epfl_measurement(pool, trained, measured, block):
    settings = epfl.measurement(CONFIG.epfl, pool, trained, measured, DEVICE)
    return CONFIG.epfl.of_block(settings, block)


def epfl_blocks(
    pattern, blocks=lambda wildcards: CONFIG.epfl.pools[wildcards.pool].blocks
):
    """All blocks of a pool, as an input function of the pattern's other wildcards."""
    return lambda wildcards: expand(pattern, block=blocks(wildcards), **wildcards)


def epfl_tables(pattern):
    """The tables of every pool under the config's protocol, in the papers' order."""
    protocol = CONFIG.epfl.protocol
    return expand(pattern, pool=CONFIG.epfl.pools, trained=protocol, measured=protocol)


def replicated_blocks(wildcards):
    """Blocks of all replications of a pool under a protocol."""
    return CONFIG.epfl.replication_blocks(wildcards.pool, wildcards.trained)


def epfl_replications(pools):
    """The distributions of τ of some pools, under every protocol that is replicated."""
    return [
        expand(
            rules.replicate_epfl.output, pool=pool, trained=protocol, measured=protocol
        )
        for pool in pools
        for protocol in CONFIG.epfl.replicated_protocols(pool)
    ]


def epfl_audited(pattern):
    """The tables that a pool's audit reads, one per protocol and block."""
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


# Measured for the audits in one job: pool, both protocols and block of each table.
EPFL_AUDITED_TOGETHER = [
    (pool, run.trained, run.measured, block)
    for pool, audit in CONFIG.epfl.audit.items()
    for run in CONFIG.epfl.audit_plan(pool).runs
    for block in run.blocks
    if audit.together and (run.trained, run.measured) != ("written", "written")
]


def epfl_audited_together(pattern):
    """One kind of file for everything that the audits measure in one job."""
    return [
        pattern.format(pool=pool, trained=trained, measured=measured, block=block)
        for pool, trained, measured, block in EPFL_AUDITED_TOGETHER
    ]


def epfl_audit_steps(wildcards, input, output):
    """The command line of the job that measures for the audits."""
    code = version_of("measure-epfl")
    slices = [epfl_measurement(*one) for one in EPFL_AUDITED_TOGETHER]
    return in_turn(
        "measure-epfl",
        experiment=[canonical_json(one) for one in slices],
        data=input.data,
        checkpoints=input.checkpoints,
        scratch=[
            scratch("measure-epfl", one, code, block)
            for one, (*_, block) in zip(slices, EPFL_AUDITED_TOGETHER, strict=True)
        ],
        output=output,
    )


# Blocks of the first models of a block of the main pool -> the block that contains them.
EPFL_PARTS = {
    f"{pool}/written/{part}": f"{pool}/written/{block}"
    for pool in CONFIG.epfl.pools
    for part, block in CONFIG.epfl.parts(pool).items()
}


def epfl_part(pattern, part):
    """A file of a block that is named by pool, protocol and seeds."""
    return result(pattern).replace("{pool}/{trained}/{block}", part)


# The same for the rules of Chen, Recanatesi and Shea-Brown.


# Settings of a family's job, and its folder: all settings, or the one of its wildcard.
CHEN_SETTINGS = {
    name: [setting.name for setting in family.settings]
    for name, family in CONFIG.chen.families.items()
}
CHEN_JOB = {
    name: (
        f"{name}/all/{{block}}" if family.together else f"{name}/{{setting}}/{{block}}"
    )
    for name, family in CONFIG.chen.families.items()
}


def chen_files(pattern, family):
    """One kind of file of a family's job, one per setting."""
    together = CONFIG.chen.families[family].together
    settings = CHEN_SETTINGS[family] if together else ["{setting}"]
    return expand(result(pattern), family=family, setting=settings, allow_missing=True)


def chen_slices(of_setting, family, wildcards):
    """A slice of the config for each setting of a job, made by `of_setting`."""
    together = CONFIG.chen.families[family].together
    settings = CHEN_SETTINGS[family] if together else [wildcards.setting]
    return [of_setting(family, setting, wildcards.block) for setting in settings]


def chen_experiment(of_setting, family):
    """The slices of a job as a parameter: Snakemake records none that depends on input or output."""
    return lambda wildcards: [
        canonical_json(one) for one in chen_slices(of_setting, family, wildcards)
    ]


def chen_training(family, setting, block):
    return chen.training(CONFIG.chen, family, setting, block, "cpu")


def chen_training_steps(family):
    """The command line of a family's training job."""

    def steps(wildcards, input, output):
        slices = chen_slices(chen_training, family, wildcards)
        code = chen_code("train-chen", family)
        return in_turn(
            "train-chen",
            experiment=[canonical_json(one) for one in slices],
            data=input.data,
            seeds=wildcards.block,
            scratch=[
                scratch("train-chen", one, code, wildcards.block) for one in slices
            ],
            final=output.final,
            trajectory=output.trajectory,
            table=output.table,
        )

    return steps


def chen_code(verb, family):
    """Version of the code of a verb for one family, whose network is found by name."""
    network = CONFIG.chen.families[family].network
    return version_of(verb, f"flatness.networks.{network}")


def chen_data(family):
    return data_file(CONFIG.chen.families[family].dataset)


def chen_trajectory(paths):
    """Weights before the end of training, deleted once measured unless the config keeps them."""
    return paths if CONFIG.chen.keep_trajectories else temp(paths)


# Kind of device that trains each family.
CHEN_TRAINED_ON = {
    name: family.train_on or DEVICE for name, family in CONFIG.chen.families.items()
}


def chen_family_training(family):
    """The slice of a family whose models train together."""
    return stacked_training(CONFIG.chen, family, "cuda")


def chen_family_files(pattern, family):
    """One kind of file of all settings and blocks of a family."""
    chosen = CONFIG.chen.families[family]
    return expand(
        result(pattern),
        family=family,
        setting=[setting.name for setting in chosen.settings],
        block=chosen.blocks,
    )


def chen_measurement(family, setting, block):
    return chen.measurement(CONFIG.chen, family, setting, block, DEVICE)


def chen_measuring_steps(family):
    """The command line of a family's measuring job."""

    def steps(wildcards, input, output):
        slices = chen_slices(chen_measurement, family, wildcards)
        return in_turn(
            "measure-chen",
            experiment=[canonical_json(one) for one in slices],
            data=input.data,
            final=input.final,
            trajectory=input.trajectory,
            training=input.training,
            output=output,
        )

    return steps


def chen_blocks(wildcards):
    family = CONFIG.chen.families[wildcards.family]
    return expand(
        result(layout.CHEN_MEASURED),
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
    """Models trained here need data and weights; pretrained ones use environment variables."""
    return " ".join(f"--{name} {shlex.quote(path)}" for name, path in input.items())


# The same for the measures of each paper on the other's models.


def cross_family(family, setting, block):
    return cross.family_measurement(
        CONFIG.cross, CONFIG.chen, family, setting, block, DEVICE
    )


def cross_family_steps(family):
    """The command line of the job that measures a family with the other paper's measure."""

    def steps(wildcards, input, output):
        slices = chen_slices(cross_family, family, wildcards)
        return in_turn(
            "measure-cross-chen",
            experiment=[canonical_json(one) for one in slices],
            data=input.data,
            final=input.final,
            training=input.training,
            output=output,
        )

    return steps


def cross_pool(wildcards):
    return cross.pool_measurement(
        CONFIG.cross, CONFIG.epfl, wildcards.pool, wildcards.trained, DEVICE
    )


def cross_tables(wildcards):
    """One table for each block of every family and pool that is compared."""
    families = [
        path
        for name in CONFIG.cross.families
        for family in [CONFIG.chen.families[name]]
        for path in expand(
            result(layout.CROSS_CHEN_MEASURED),
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


# Of the figures.


# The figures of this config, by the name of their files.
DRAWN = drawn_figures(CONFIG.members)
# Figures that one job draws, since starting Python takes longer than drawing them.
DRAWN_TOGETHER = [
    name
    for name, drawn in DRAWN.items()
    if drawn.figure.among == "families" and CONFIG.figures.together
]


def tables_by_option(name):
    """The tables of a figure, by option of its verb."""
    drawn = DRAWN[name]
    tables = {}
    protocol = drawn.figure.protocol or CONFIG.epfl.protocol
    for option, pattern in drawn.figure.tables.items():
        group = drawn.figure.where.get(option)
        having = CONFIG.members[group] if group else drawn.members
        members = [member for member in drawn.members if member in having]
        tables[option] = expand(
            result(pattern),
            family=members,
            scale=members,
            pool=members,
            trained=protocol,
            measured=protocol,
        )
    return tables


def tables_of(names):
    """All tables that some figures show."""
    paths = [
        path
        for name in names
        for tables in tables_by_option(name).values()
        for path in tables
    ]
    return list(dict.fromkeys(paths))


def drawing_steps(names):
    """The command line that draws some figures, one after the other."""
    steps = []
    for name in names:
        figure = DRAWN[name].figure
        options = figure.options | {"dpi": CONFIG.figures.dpi}
        options |= {"png": picture(name), "svg": drawing(name)}
        words = [figure.verb, *(f"--{key}={value}" for key, value in options.items())]
        for option, paths in tables_by_option(name).items():
            words += [f"--{option}={path}" for path in paths]
        steps.append(shlex.join(words))
    return " --then ".join(steps)


def reported(name):
    """A figure's picture, for Snakemake's own report."""
    entry = lambda wildcards: DRAWN[name.format(**wildcards)].figure
    return report(
        picture(name),
        caption="../report/figure.rst",
        category=lambda wildcards: PAPERS.get(entry(wildcards).paper, BOTH),
        labels={"figure": name},
    )


def captions_of(names):
    """Captions by figure. A parameter of captions and output does not cause a redraw."""
    return {name: DRAWN[name].figure.caption_of(name) for name in names}


def figures_of(study):
    """Every figure that a study draws, in both formats."""
    return [
        file(name)
        for name, drawn in DRAWN.items()
        if drawn.figure.study == study
        for file in (picture, drawing)
    ]


# Of the tiers.


def chen_measured(family, blocks):
    """Measurements of some blocks of a family, with both papers' measures."""
    measured = [layout.CHEN_MEASURED]
    measured += [layout.CROSS_CHEN_MEASURED] * (family in CONFIG.cross.families)
    return [
        path
        for pattern in measured
        for path in expand(
            result(pattern), family=family, setting=CHEN_SETTINGS[family], block=blocks
        )
    ]


def tier_files(tier):
    """All targets of a tier."""
    families = CONFIG.chen.families
    parts = [chen_measured(name, families[name].trend_blocks) for name in tier.trends]
    parts += [chen_measured(name, families[name].blocks) for name in tier.families]
    parts.append(expand(rules.contrast_chen.output, family=tier.families))
    parts.append(epfl_replications(tier.pools))
    for collected, pools in (
        (rules.audit_epfl.output, CONFIG.epfl.audit),
        (rules.defect_effects.output, CONFIG.epfl.factorial),
    ):
        parts.append(
            expand(collected, pool=[pool for pool in tier.pools if pool in pools])
        )
    parts.append(rules.correlate_transformers.output if tier.transformers else [])
    return parts
