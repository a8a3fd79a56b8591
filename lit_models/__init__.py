"""Models: one file each, a plain `nn.Module` and the `Lit...` class that trains it."""

from lit_models.base.classifier import LitClassifier
from lit_models.base.regressor import LitRegressor
from lit_models.base.task import LitTask
from lit_models.cnn import CNN, LitCNN
from lit_models.linear import LinearRegression, LitLinearRegression
from lit_models.logistic import LitLogisticRegression, LogisticRegression
from lit_models.lstm import LitLSTM, RowLSTM
from lit_models.mlp import MLP, LitMLP, LitMLPRegressor
from lit_models.parts.schedules import ends_with_run, plan_anew
from lit_models.resnet import LitResNet, ResidualBlock, ResNet
from lit_models.speed_net import LitSpeedNet, SpeedNet
from lit_models.token_lstm import LitTokenLSTM, TokenLSTM

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
    "ends_with_run",
    "plan_anew",
]
