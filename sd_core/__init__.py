"""The library. It never imports Gradio."""

from sd_core.environment import limit_spinning

limit_spinning()  # here, since Python comes by before any module of the library can import torch
