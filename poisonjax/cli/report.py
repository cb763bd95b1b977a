"""Write the results of many runs as a site or as tables: poisonjax report site --records results --out site"""

import pathlib

from poisonjax.cli.parser import Parser, complain, dispatch, notice


def main(words: list[str], prog: str) -> int:
    """Run a command; return the exit status: 0 done, 1 the machine failed, 2 invalid input."""
    commands = {
        "tables": ("renew README.md, its picture and results/README.md in this checkout", _tables),
        "poisons": ("draw what each poison does to a few images of mnist_5k", _poisons),
        "site": ("write a static site of all records below a folder", _site),
    }
    try:
        return dispatch(prog, words, commands)
    except ValueError as error:
        return complain(prog, error, 2)
    except OSError as error:
        return complain(prog, error, 1)


def _tables(words: list[str], prog: str) -> int:
    Parser(prog, "Renew README.md, its picture and results/README.md in this checkout.").parse(words)
    notice(prog, "reading records ...")
    from poisonjax.reports import hero
    from poisonjax.reports.site.reading import collect
    from poisonjax.reports.summary import pages
    from poisonjax.runtime.workdir import write_atomic

    root = pathlib.Path(__file__).parents[2]
    runs = collect(root / "results").runs
    for path, content in (pages(root, runs) | hero.pictures(root, runs)).items():
        write_atomic(path, content)
    return 0


def _poisons(words: list[str], prog: str) -> int:
    flag = Parser(prog, "Draw what each poison does to a few images of mnist_5k.")
    flag.text("out", "PNG file to write", required=True)
    flag.text("data_dir", "folder of the tfds data sets; default: tfds's own")
    args = flag.parse(words)
    notice(prog, "training the attacker's network ...")
    from poisonjax.reports import figures
    from poisonjax.runs import poison_sheet

    figures.save(poison_sheet.of_package(args.data_dir), pathlib.Path(args.out), poison_sheet.DPI)
    print(args.out)
    return 0


def _site(words: list[str], prog: str) -> int:
    flag = Parser(prog, "Write a static site of all records below a folder.")
    flag.text("records", "folder with records, at any depth", required=True)
    flag.text("out", "folder of the site; replaced if it is one", required=True)
    flag.text("url", "address at which it will be, for the pictures on cards that link to its pages", "")
    args = flag.parse(words)
    notice(prog, "reading records ...")
    from poisonjax.reports.site import folder

    folder.write(pathlib.Path(args.records), pathlib.Path(args.out), args.url)
    print(pathlib.Path(args.out) / "index.html")
    return 0
