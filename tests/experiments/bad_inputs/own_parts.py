"""Models and data of the user's own that break what litlab needs of them."""

from __future__ import annotations

from pathlib import Path

from tests.experiments.bad_inputs.bad import Arrange, Bad, edited, gone, write

NET, DATA = Path("my_net.py"), Path("my_data.py")
WORDS = "fit --model=my_net.Net --data=my_data.Clouds"


def own(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange) -> Bad:
    """A fit of own parts, one of them spoilt."""
    return Bad(WORDS, offender, remedy, given="own", offence=offence)


OWN: dict[str, Bad] = {
    "own module gone": own("'my_net.Net' cannot be imported", "run litlab in the folder", gone(NET)),
    "own class of another name": own("'my_net.Net'", "Did you mean", edited(NET, "class Net", "class Nets")),
    "own module that is no Python": own(
        "my_net.py, line 1 is not valid Python", "Fix", write("my_net.py", "class Net(:\n")
    ),
    "own data that is no Python": own(
        "my_data.py, line 1 is not valid Python", "Fix", write("my_data.py", "import (\n")
    ),
    "own module that needs what is not there": own(
        "'my_net.Net' cannot be imported: No module named 'jaxx'",
        "run litlab in the folder",
        edited(NET, "import torch", "import jaxx"),
    ),
    "own model that is not a LightningModule": own(
        "'my_net.Net' is not a LightningModule", "derives from it", edited(NET, "(LitClassifier)", "")
    ),
    "own option without a value": Bad(
        f"{WORDS} --model.width=wide",
        ("model.width must be", "got 'wide'"),
        "an integer",
        f"{WORDS} --model.width=3",
        given="own",
    ),
    "own option that is not there": Bad(
        f"{WORDS} --model.widht=3",
        "Net has no argument 'widht'",
        "Did you mean width?",
        f"{WORDS} --model.width=3",
        given="own",
    ),
    "own data of unequal lengths": own(
        ("Clouds's train tensors", "100 samples but 99 labels"),
        "load_part",
        edited(DATA, "return x, y", "return x, y[1:]"),
    ),
    "own data of no samples": own(
        ("Clouds's train tensors", "no samples"), "load_part", edited(DATA, "return x, y", "return x[:0], y[:0]")
    ),
    "own data with a label too high": own(
        ("Clouds's train tensors", "label 2, expected 0 to 1"),
        "load_part",
        edited(DATA, "return x, y", "return x, y + 1"),
    ),
    "own data that states no shape": own(
        "input_shape", "Clouds", edited(DATA, "input_shape, num_classes = (2,), 2", "num_classes = 2")
    ),
    "own data that gives no tensors": own(
        ("Clouds", "load_part"), "tensor", edited(DATA, "return x, y", "return x.numpy(), y.numpy()")
    ),
    "own data that gives one thing": own(
        ("Clouds", "load_part"), "two tensors", edited(DATA, "return x, y", "return x")
    ),
    "own setting that is no plain data": own(
        ("Net", "'act'"),
        "save_hyperparameters(ignore=['act'])",
        edited(NET, "# more", "self.save_hyperparameters({'act': lambda x: x})"),
    ),
}
