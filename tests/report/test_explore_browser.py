"""The explorable page in headless Chromium: mouse, keyboard, filter, switches, no network."""

import json
import re
import shutil
import time

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from checkout import ROOT
from flatness.report.explore import explore

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no chromium and chromedriver here; Debian: apt-get install chromium-driver",
    ),
]
KEPT = ROOT / "results/reference/laptop"
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
NO_SCRIPTS = {"profile.managed_default_content_settings.javascript": 2}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "explore.html"
    explore(KEPT, output)
    return output.as_uri()


def start(folder, preferences=None):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.add_experimental_option("prefs", preferences or {})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    started = start(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


@pytest.fixture
def page(browser, address):
    """The page as it opens; afterwards nothing was said on the console nor asked of the network."""
    resize(browser, 1300, 1000)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(address)
    WebDriverWait(browser, 60).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#plot .point"))
    yield browser
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if "request" in m["params"]]
    assert asked and all(re.match(r"file:|data:|blob:", url) for url in asked)


def resize(browser, width, height, dark=False):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def text(page, name):
    return page.find_element(By.ID, name).text


def choose(page, name, title):
    Select(page.find_element(By.ID, name)).select_by_visible_text(title)


def points(page):
    return page.find_elements(By.CSS_SELECTOR, "#plot .point")


def told(page):
    """What is said of the point that is pointed at, once something is."""
    return WebDriverWait(page, 10).until(lambda p: text(p, "told"))


def labelled(page, who):
    """Whether the label beside the point comes to name a model; it follows within moments."""
    layer = page.find_element(By.CSS_SELECTOR, "#plot .hoverlayer")
    return WebDriverWait(page, 10).until(lambda _: who in layer.text)


def plotted(page, axis):
    """All plotted values of one axis, sorted."""
    script = f"return document.getElementById('plot').data.flatMap((trace) => trace.{axis})"
    return sorted(page.execute_script(script))


def test_the_mouse_shows_model_setting_seed_and_values_with_errors(page):
    ActionChains(page).move_to_element(points(page)[0]).perform()
    said = told(page)
    assert re.match(r"lr 0\.\d+, batch \d+ · seed \d+ · step \d+\n", said)
    assert len(re.findall(r" = [\d.e+-]+ ± [\d.e+-]+", said)) == 2
    assert labelled(page, said.split("\n")[0])


def test_the_keyboard_shows_the_same(page):
    page.find_element(By.ID, "errors").send_keys(Keys.TAB)
    for _ in range(30):
        focused = page.switch_to.active_element
        if focused.get_attribute("id") == "plot":
            break
        focused.send_keys(Keys.TAB)
    first = told(page)
    focused.send_keys(Keys.ARROW_RIGHT)
    second = told(page)
    focused.send_keys(Keys.END)
    last = told(page)
    assert len({first, second, last}) == 3
    across = [float(re.search(r"= ([\d.e+-]+)", said)[1]) for said in (first, second, last)]
    assert across == sorted(across)
    assert across[-1] == pytest.approx(plotted(page, "x")[-1], rel=1e-4)
    focused.send_keys(Keys.HOME)
    assert told(page) == first
    assert labelled(page, first.split("\n")[0])


def test_a_setting_that_is_switched_off_is_not_shown(page):
    before = len(points(page))
    off = before // 5  # one of the grid's five settings
    box = page.find_element(By.CSS_SELECTOR, "#groups input[value='lr 0.1, batch 8']")
    box.click()
    assert len(points(page)) == before - off
    assert f"{off} switched off" in text(page, "count")
    box.click()
    assert len(points(page)) == before


def test_matched_loss_and_equal_steps_give_other_values(page):
    choose(page, "set", "tanh MLP on FashionMNIST")
    equal = plotted(page, "y")
    choose(page, "view", "matched loss (training loss 0.0003)")
    assert len(plotted(page, "y")) == len(equal)
    assert plotted(page, "y") != equal
    assert Select(page.find_element(By.ID, "y")).first_selected_option.text == "MLS"


def test_scales_and_quantities_can_be_changed(page):
    def kind():
        return page.execute_script("return document.getElementById('plot').layout.xaxis.type")

    assert kind() == "linear"
    page.find_element(By.ID, "log-x").click()
    assert kind() == "log"
    before = plotted(page, "x")
    choose(page, "x", "√S · root sharpness")
    assert plotted(page, "x") != before


def test_runs_are_drawn_along_training(page):
    choose(page, "set", "VGG-11 on CIFAR-10")
    choose(page, "view", "along training, train images")
    runs = pd.read_csv(KEPT / "correlations/chen/vgg11/checkpoints.csv")
    drawn = page.find_elements(By.CSS_SELECTOR, "#plot .js-line")
    assert len(drawn) == runs.groupby(["setting", "seed"]).ngroups > 1
    assert plotted(page, "x")[-1] == runs["step"].max()


def test_a_claim_shows_its_scatter_and_stands_first(page):
    choose(page, "set", "GAT")
    first = page.find_element(By.CSS_SELECTOR, "#claims li")
    assert first.get_attribute("class") == "here"
    for expected in ("in sign, not in size", "-0.61 [-0.73, -0.45]", "published -0.185", "tau-gat"):
        assert expected in first.text
    assert "published sharpness" in page.find_element(By.ID, "plot").text
    page.find_element(By.CSS_SELECTOR, "[aria-label='show the scatter of mean τ < 0, GAT']").click()
    assert "replication 1" in text(page, "groups")
    assert "mean-tau-gat" in page.find_element(By.CSS_SELECTOR, "#claims li.here").text


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_holds_the_page_in_light_and_dark(page, dark):
    resize(page, 360, 700, dark)
    time.sleep(0.5)  # the picture follows the window
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    assert page.find_element(By.ID, "plot").rect["width"] > 300
    colour = page.execute_script("return document.getElementById('plot').layout.font.color")
    assert colour == ("#e4e7ec" if dark else "#1d2129")


def test_without_scripts_the_pictures_remain(tmp_path, address):
    browser = start(tmp_path, NO_SCRIPTS)
    try:
        browser.get(address)
        pictures = browser.find_elements(By.CSS_SELECTOR, "noscript img")
        assert len(pictures) == len(list((KEPT / "figures").glob("*.png")))
        assert all(picture.is_displayed() and picture.rect["width"] > 200 for picture in pictures)
        assert not browser.find_element(By.TAG_NAME, "main").is_displayed()
    finally:
        browser.quit()
