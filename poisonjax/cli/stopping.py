"""The ends that a command comes to before it is done, and what it says then."""

from contextlib import AbstractContextManager

from poisonjax.runtime.signals import STOPPED, heard, write

__all__ = ["RESUME", "STOPPED", "STOPPED_AT_ONCE", "answering_ctrl_c"]

RESUME = "progress saved so far is intact; run the same command again to resume"
STOPPED_AT_ONCE = f"stopped at once; {RESUME}"


def answering_ctrl_c(prog: str) -> AbstractContextManager[None]:
    """Answer Ctrl-C with a line at once, even within native code, and see that the process stops soon."""

    def answer(name: str) -> str:
        write("stopping at once ...")
        return f"{prog}: {STOPPED_AT_ONCE}"

    return heard(answer)
