"""ICC profiles small enough to build by hand (ICC.1:2001-04): primaries and a gamma, or a gamma alone."""

import struct

# Columns of the matrix from linear RGB to XYZ at D50, as the profiles of that name have them.
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
WHITE = (0.9642, 1.0, 0.8249)  # D50


def rgb_profile(primaries, gamma=2.2):
    """The profile of an RGB space whose values are linear light to the power of 1 / gamma."""
    tags = {b"rXYZ": _xyz(primaries[0]), b"gXYZ": _xyz(primaries[1]), b"bXYZ": _xyz(primaries[2])}
    return _profile(b"RGB ", tags | {name: _curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def grey_profile(gamma):
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def _profile(space, tags):
    name = b"made for a test\0"
    tags |= {b"wtpt": _xyz(WHITE), b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)}
    offset, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for signature, data in tags.items():
        table += signature + struct.pack(">II", offset + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    body = struct.pack(">I", len(tags)) + table + content
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"test", 0x02100000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp"
    return (header.ljust(68, b"\0") + _fixed(WHITE)).ljust(128, b"\0") + body


def _fixed(numbers):
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _xyz(numbers):
    return b"XYZ \0\0\0\0" + _fixed(numbers)


def _curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
