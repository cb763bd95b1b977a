"""Progress bars, as a terminal of 80 columns shows them."""

import io
import os
import sys

import pytest

from poisonjax.reports.console import Bar, TrainingBar, say
from poisonjax.reports.text import duration

ROW = {"step": 5, "train_loss": 1.234, "train_accuracy": 0.5, "clean_accuracy": 0.973, "attack_success_rate": 1.0}


class Terminal(io.StringIO):
    columns = 80

    def isatty(self):
        return True

    def fileno(self):
        return 2


def at_terminal(monkeypatch):
    """A terminal of 80 columns instead of standard error, until the test ends; what is written there."""
    monkeypatch.setattr(sys, "stderr", made := Terminal())
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((made.columns, 24)))
    return made


def shown(bar):
    return str(bar._bar)


def test_a_bar_that_stands_still_says_why(monkeypatch):
    at_terminal(monkeypatch)
    with Bar("arm 1/5 train") as bar:
        assert shown(bar).startswith("arm 1/5 train   0%|") and shown(bar).endswith("| compiling, first step ...")
        bar.begin(200, 50)
        assert "  25%|" in shown(bar) and "compiling" in shown(bar)
        bar.advance(50)
        assert "  50%|" in shown(bar) and "compiling" not in shown(bar)


def test_a_network_that_is_trained_already_has_no_bar(monkeypatch, tmp_path):
    at_terminal(monkeypatch)
    with TrainingBar("arm 1/5 train", tmp_path, lambda: False) as bar:
        bar.begin(200, 200)
        assert bar._bar.disable


def test_accuracy_attack_success_and_time_left_are_seen_at_80_columns(tmp_path, monkeypatch):
    terminal = at_terminal(monkeypatch)
    left = lambda: "about 23 h 59 min left"  # noqa: E731
    with TrainingBar("arm 2/5 seed 1/3 train", tmp_path, lambda: False, left=left) as bar:
        bar.begin(200, 0)
        bar.advance(50)
        bar.epoch(ROW)
        bar.advance(50)
        line = shown(bar)
        assert len(line) < 80 and " clean 97% ASR 100%, 23 h 59 min left" in line and "loss" not in line
        terminal.columns = 140
        bar.advance(50)
        assert " loss 1.234 train 50% clean 97% ASR 100%, 23 h" in shown(bar)
        bar.advance(50)
    assert "left" not in terminal.getvalue().split("\r")[-1]  # what stays on the screen has its duration instead


def test_without_a_time_of_the_job_a_bar_shows_its_own(monkeypatch):
    at_terminal(monkeypatch)
    with Bar("test") as bar:
        bar.begin(200, 0)
        bar.advance(50)
        bar.advance(50)
        assert " <" in shown(bar) and "left" not in shown(bar)


def test_a_log_has_lines_but_no_bars(capsys):
    with Bar("test") as bar:
        bar.begin(200, 0)
        bar.advance(200)
        say("a line")
    assert capsys.readouterr().err == "a line\n"


def test_share_of_the_training_is_told(tmp_path):
    told, calls = [], []
    with TrainingBar("train", tmp_path, lambda: False, lambda: calls.append(1), told.append) as bar:
        bar.begin(200, 50)
        bar.advance(50)
        bar.advance(100)
    assert told == [0.25, 0.5, 1.0] and len(calls) == 2


DURATIONS = {
    0.2: "1 s",
    59.4: "59 s",
    59.6: "1 min",
    3569: "59 min",
    3600: "1 h 0 min",
    86399: "1 d 0 h",
    2e5: "2 d 7 h",
}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_durations_are_short(seconds):
    assert duration(seconds) == DURATIONS[seconds]
