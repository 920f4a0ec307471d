"""Asking a server from Python: one call a prediction, made once however often it is sent."""

from steelyard.client.async_client import AsyncClient
from steelyard.client.client import Client
from steelyard.client.prediction import Prediction, Service

__all__ = ["AsyncClient", "Client", "Prediction", "Service"]
