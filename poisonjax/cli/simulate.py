"""Try attacks on data of one's own: poisonjax simulate folder:/my/images --out=simulation --rates=.003,.03"""

from types import SimpleNamespace

from poisonjax.cli import command
from poisonjax.cli.parser import Parser


def parser(prog: str) -> Parser:
    """The flags."""
    purpose = "Plant poison in data of one's own, and measure what it does and which training withstands it."
    flag = Parser(prog, purpose, ("source",))
    flag.text("out", "folder of the results; begun before, it resumes", required=True)
    flag.text("rates", "shares of the training rows that the attacker has", "0.01,0.1")
    flag.repeated("poison", "with {rate} in it, as 'BadNets({rate}, 0, Warp())'; default: a patch, and a blend")
    flag.whole("seeds", "number of seeds", least=1, default=1)
    command.add_data_flags(flag)
    command.add_machine_flags(flag)
    return flag


def main(words: list[str], prog: str) -> int:
    """Try the attacks; return the exit status: 0 done; 1 a point or the machine failed; or as `command.run`."""
    return command.run(words, prog, parser, _simulate)


def _simulate(args: SimpleNamespace) -> int:
    from poisonjax.runs import experiments, simulate

    experiments.import_types()
    rates, data = command.fractions("rates", args.rates), command.own_data(args, args.source)
    status, said = simulate.run(data, args.out, rates, args.poison, args.data_dir, args.seeds)
    print(f"\n{said}\n{args.out}/simulation.md")
    return status
