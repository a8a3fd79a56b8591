"""Models, one per file: a plain `nn.Module` and the `Lit...` class that trains it."""

from pkgutil import extend_path

from lit_models.base.classifier import LitClassifier
from lit_models.base.regressor import LitRegressor
from lit_models.base.task import LitTask
from lit_models.cnn import CNN, LitCNN
from lit_models.linear import LinearRegression, LitLinearRegression
from lit_models.logistic import LitLogisticRegression, LogisticRegression
from lit_models.lstm import LitLSTM, RowLSTM
from lit_models.mlp import MLP, LitMLP, LitMLPRegressor
from lit_models.parts.schedules import depends_on_run_length, rebuild_schedule
from lit_models.parts.several_steps import set_steps_per_call
from lit_models.resnet import LitResNet, ResidualBlock, ResNet
from lit_models.speed_net import LitSpeedNet, SpeedNet
from lit_models.token_lstm import LitTokenLSTM, TokenLSTM

__path__ = extend_path(__path__, __name__)  # a project's folder of this name, see litlab.packages

__all__ = [
    "CNN",
    "MLP",
    "LinearRegression",
    "LitCNN",
    "LitClassifier",
    "LitLSTM",
    "LitLinearRegression",
    "LitLogisticRegression",
    "LitMLP",
    "LitMLPRegressor",
    "LitRegressor",
    "LitResNet",
    "LitSpeedNet",
    "LitTask",
    "LitTokenLSTM",
    "LogisticRegression",
    "ResNet",
    "ResidualBlock",
    "RowLSTM",
    "SpeedNet",
    "TokenLSTM",
    "depends_on_run_length",
    "rebuild_schedule",
    "set_steps_per_call",
]
