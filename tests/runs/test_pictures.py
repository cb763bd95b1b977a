"""images.png: classes by name, and what each network says of the pictures above."""

import numpy as np
import pytest
from matplotlib.text import Text

from poisonjax.runs.pictures import Shown, attack_sheet

NAMES = ("airplane", "automobile", "bird")
SAYS = {
    "standard": {"clean": [1, 2], "triggered": [0, 0]},
    "detector": {"clean": [1, 1], "triggered": [-1, 2]},
}


def shown(rows: int, tests: int) -> Shown:
    images = np.random.default_rng(0).uniform(size=(rows, 8, 8, 3)).astype(np.float32)
    changed = np.clip(images + 8 / 255, 0, 1)
    test = images[:1].repeat(tests, 0)
    labels = np.arange(rows) % 3
    return Shown(images, changed, labels, labels * 0, test, test, np.array([1, 2])[:tests], np.array([0, 0])[:tests])


def texts(figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text().strip()]


def said(figure) -> list[str]:
    return [" ".join(text.get_text().split()) for text in texts(figure)]


def test_training_images_have_their_labels_before_and_after():
    found = said(attack_sheet(shown(3, 2), SAYS, NAMES, "a setting"))
    assert found.count("labelled airplane") == 3 and found.count("change × 20 (grey: none)") == 3
    assert [line for line in found if line.startswith("training image")] == [
        f"training image: {name}" for name in NAMES
    ]
    assert "a setting; bold: what the attacker wants" in found


def test_each_network_has_a_line_below_each_test_image():
    figure = attack_sheet(shown(2, 2), SAYS, NAMES, "")
    found = said(figure)
    assert found.count("true class automobile") == found.count("true class bird") == 1
    assert found.count("target class airplane") == 2
    assert {"standard says", "detector says"} <= {*found}
    clean, triggered, *_ = [axis for axis in figure.axes if "class" in axis.get_title()]
    assert [text.get_text() for text in clean.texts][:2] == ["automobile", "automobile"]
    assert [text.get_text() for text in triggered.texts] == ["airplane", "rejected"]
    assert [text.get_fontweight() for text in triggered.texts] == ["bold", "normal"]


def test_without_a_trigger_a_wrong_class_of_a_clean_image_is_what_the_attacker_wants():
    given = shown(2, 2)
    figure = attack_sheet(given._replace(target=given.test_label), {"standard": {"clean": [1, 0]}}, NAMES, "")
    found = said(figure)
    assert "Poisoned training images, and test images as each network sees them" in found
    assert not any(line.startswith("target class") for line in found)
    first, second = [axis for axis in figure.axes if "true class" in axis.get_title()]
    weights = [axis.texts[0].get_fontweight() for axis in (first, second)]
    assert first.texts[0].get_text() == "automobile" and weights == ["normal", "bold"]


@pytest.mark.parametrize(("rows", "tests"), [(4, 2), (1, 1)])
def test_classes_without_names_and_networks_that_said_nothing_are_drawn_too(rows, tests):
    found = said(attack_sheet(shown(rows, tests), {}, (), "a setting"))
    assert "true class 1" in found and "a setting" in found and not any("says" in line for line in found)
