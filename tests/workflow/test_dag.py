"""The DAG of the shipped configs, by dry runs in an empty folder."""

import re
import shutil
import subprocess

import pytest
import yaml

from checkout import ROOT, shipped
from flatness.pipeline.config import validate
from flatness.report.figure_list import drawn_figures
from workflow.real_snakefile import job_counts, snakemake

#: Larger plans take Snakemake 15 seconds each.
CONFIGS = ["demo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("laptop", "paper"))]


def figures_of(config):
    return drawn_figures(validate(shipped(config)).members).values()


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_plans_all_pools(tmp_path, config):
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", "--", "epfl", config=config)
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    epfl = shipped(config)["epfl"]
    pools, replications = epfl["pools"], epfl["replications"]
    study = validate(shipped(config)).epfl
    blocks = sum(-(-pool["models"] // pool["block"]) for pool in pools.values())
    for name in replications:
        more = study.replication_blocks(name, study.protocol)
        blocks += len(more) - len(study.pools[name].blocks)
    runs = [(pool, run) for pool in epfl["audit"] for run in study.audit_plan(pool).runs]
    measured = {
        (pool, run.trained, run.measured, block)
        for pool, run in runs
        for block in run.blocks
        if run.trained != "written" or run.measured != "written"
    }
    together = {job for job in measured if epfl["audit"][job[0]].get("together")}
    trained = {(pool, trained, block) for pool, trained, _, block in measured}
    retrained = {job for job in trained if job[1] != "written"}
    assert counts["train_epfl"] == blocks + len(retrained)
    assert counts["measure_epfl"] == blocks + len(measured - together)
    assert counts.get("measure_audit", 0) == bool(together)
    assert counts["replicate_epfl"] == len(replications)
    assert counts["audit_epfl"] == len(epfl["audit"])
    assert counts["fetch"] == 3
    assert counts["correlate_epfl"] == 3 + len(study.released_pools)
    # What the audit measures of a part of a block is not trained again.
    assert counts.get("take_epfl", 0) == sum(len(study.parts(pool)) for pool in epfl["audit"])
    assert counts["draw"] == sum(drawn.figure.study == "epfl" for drawn in figures_of(config))


def test_a_study_without_models_is_left_out(tmp_path):
    config = shipped("demo")
    config["epfl"] |= {"pools": {}, "replications": {}, "audit": {}, "factorial": {}}
    config["chen"]["families"] = {"mlp_relu": config["chen"]["families"]["mlp_relu"]}
    config["cross"]["families"] = []
    config["transformers"]["trained"] = None
    path = tmp_path / "part.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", config=path)
    assert done.returncode == 0, done.stderr
    jobs = set(job_counts(done.stdout + done.stderr)) - {"all", "total"}
    assert jobs == {
        "fetch", "train_chen_mlp_relu", "measure_chen_mlp_relu", "correlate_chen", "contrast_chen",
        "draw_together", "report", "explore", "dictionary", "notebook",
    }  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_cross_measures_each_training_block_once(tmp_path, config):
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", "--", "cross", config=config)
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout + done.stderr)
    assert counts["measure_cross_epfl"] == counts["train_epfl"] > 0
    # families that are not compared are not trained for it
    families = shipped(config)["cross"]["families"]
    trained = {name: counts[f"train_chen_{name}"] for name in families}
    assert {name: counts[f"measure_cross_chen_{name}"] for name in families} == trained
    assert sum(of_stage(counts, "train_chen").values()) == sum(trained.values()) > 0
    assert counts["correlate_cross"] == counts["draw"] == 1


def test_a_wrong_config_stops_before_any_job_without_a_traceback(tmp_path):
    values = shipped()
    values["epfl"]["pools"]["fcnn"]["models"] = 0
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = snakemake(tmp_path, "--cores", "1", config=tmp_path / "wrong.yaml")
    assert done.returncode != 0
    assert "epfl.pools.fcnn.models: found 0: Input should be greater than 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("lost", "returncode"), [("name", 1), ("chen", 1), (None, 0)])
def test_a_config_that_lacks_a_key_does_not_become_the_demo(tmp_path, lost, returncode):
    values = shipped()
    values = {key: values[key] for key in values if key != lost} if lost else {"device": "cpu"}
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = snakemake(tmp_path, "--list-rules", config=tmp_path / "config.yaml")
    assert done.returncode == returncode
    assert not lost or f"{lost}: this key is missing" in done.stderr


def test_results_without_records_are_not_taken_for_up_to_date(tmp_path):
    table = tmp_path / "results/demo/measurements/epfl/gat/written/written/0-9.csv"
    table.parent.mkdir(parents=True)
    table.touch()
    (tmp_path / "results/demo/manifest.json").touch()
    done = snakemake(tmp_path, "--dry-run")
    assert done.returncode == 1
    assert "flatness adopt" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_an_undeclared_grid_point_is_no_target(tmp_path):
    target = "results/demo/measurements/epfl/fcnn/written/written/7-8.csv"
    done = snakemake(tmp_path, "--dry-run", target)
    assert done.returncode != 0
    assert "MissingRuleException" in done.stdout + done.stderr


def test_more_seeds_train_only_the_new_block(tmp_path):
    """Blocks that exist stay as they are when a pool grows."""
    values = shipped()
    values["epfl"]["pools"] = {"fcnn": values["epfl"]["pools"]["fcnn"]}
    values["epfl"] |= {"replications": {}, "audit": {}}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", "--", "epfl", config=config)
    before = job_counts(done.stdout + done.stderr)
    values["epfl"]["pools"]["fcnn"]["models"] += values["epfl"]["pools"]["fcnn"]["block"]
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", "--", "epfl", config=config)
    after = job_counts(done.stdout + done.stderr)
    assert after["train_epfl"] == before["train_epfl"] + 1


def of_stage(counts, stage):
    """Jobs of a stage by rule: there is one rule a family."""
    return {name: count for name, count in counts.items() if name.startswith(stage)}


def plan_chen(folder, *arguments, config="demo"):
    done = snakemake(
        folder, "--dry-run", "--quiet", "rules", *arguments, "--", "chen", config=config
    )
    assert done.returncode == 0, done.stderr
    return job_counts(done.stdout + done.stderr)


@pytest.mark.parametrize("config", CONFIGS)
def test_on_a_gpu_the_models_of_a_family_are_one_job(tmp_path, config):
    loop = plan_chen(tmp_path, "--config", "device=cpu", config=config)
    stacked = plan_chen(tmp_path, "--config", "device=cuda", config=config)
    families = shipped(config)["chen"]["families"]
    stacks = {f"train_chen_stacked_{name}" for name in families}
    assert len(stacks) > 2
    assert of_stage(stacked, "train_chen") == dict.fromkeys(stacks, 1)
    trained, measured = of_stage(loop, "train_chen"), of_stage(loop, "measure_chen")
    assert sorted(trained.values()) == sorted(measured.values())
    after = loop.keys() - trained.keys() - {"total"}
    assert stacked.keys() - stacks - {"total"} == after
    assert all(stacked[name] == loop[name] for name in after)


def test_a_family_may_be_trained_on_another_kind_of_device(tmp_path):
    values = shipped()
    name, *others = values["chen"]["families"]
    values["chen"]["families"][name]["train_on"] = "cuda"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"device": "cpu"}), encoding="utf-8")
    mixed = plan_chen(tmp_path, config=config)
    loop = plan_chen(tmp_path, "--config", "device=cpu")
    assert mixed[f"train_chen_stacked_{name}"] == 1
    assert f"train_chen_{name}" not in mixed
    same = [f"train_chen_{other}" for other in others]
    same += [rule for rule in loop if rule.startswith("measure")]
    assert {rule: mixed[rule] for rule in same} == {rule: loop[rule] for rule in same}


def test_one_job_takes_all_settings_of_a_block_where_the_config_says_so(tmp_path):
    values = shipped()
    values["chen"]["families"] = {"mlp_tanh": values["chen"]["families"]["mlp_tanh"]}
    values["chen"]["families"]["mlp_tanh"] |= {"seeds": 6, "block": 2, "trend_seeds": 0}
    values["cross"]["families"] = ["mlp_tanh"]
    config = tmp_path / "config.yaml"
    jobs = []
    for together in (False, True):
        values["chen"]["families"]["mlp_tanh"]["together"] = together
        config.write_text(yaml.safe_dump(values))
        counts = plan_chen(tmp_path, "--config", "device=cpu", config=config)
        jobs.append((counts["train_chen_mlp_tanh"], counts["measure_chen_mlp_tanh"]))
    assert jobs == [(15, 15), (3, 3)]


def test_more_replications_train_only_new_blocks(tmp_path):
    values = shipped()
    values["epfl"]["pools"] = {"fcnn": values["epfl"]["pools"]["fcnn"]}
    values["epfl"]["audit"] = {}
    config = tmp_path / "config.yaml"
    trained = []
    for count in (1, 5):
        values["epfl"]["replications"] = {"fcnn": {"count": count, "block": 100}}
        config.write_text(yaml.safe_dump(values), encoding="utf-8")
        done = snakemake(tmp_path, "--dry-run", "--quiet", "rules", "--", "epfl", config=config)
        trained.append(job_counts(done.stdout + done.stderr)["train_epfl"])
    assert trained == [1, 3]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_every_make_target_is_explained():
    shown = subprocess.run(
        ["make", "-C", ROOT, "help"], capture_output=True, encoding="utf-8"
    ).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    declared = re.search(r"^\.PHONY: (.*)$", makefile, re.M).group(1)
    assert all(re.search(rf"make {target} +\S+", shown) for target in declared.split())
