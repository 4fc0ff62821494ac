"""Operating systems and their Core ML specification versions.

The table repeats ``coremltools/_deployment_compatibility.py`` of coremltools 9.0, because
importing coremltools takes seconds; a test compares the two.
"""

SPECIFICATION_VERSIONS: dict[str, int] = {
    **{"iOS13": 4, "iOS14": 5, "iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10},
    **{"macOS10_15": 4, "macOS10_16": 5, "macOS11": 5, "macOS12": 6, "macOS13": 7},
    **{"macOS14": 8, "macOS15": 9, "macOS26": 10},
    **{"watchOS6": 4, "watchOS7": 5, "watchOS8": 6, "watchOS9": 7, "watchOS10": 8},
    **{"watchOS11": 9, "watchOS26": 10},
    **{"tvOS13": 4, "tvOS14": 5, "tvOS15": 6, "tvOS16": 7, "tvOS17": 8, "tvOS18": 9, "tvOS26": 10},
}

IOS16, IOS17, IOS18 = 7, 8, 9

RUNTIME_FLOOR = IOS16
"""ExecuTorch's Core ML runtime needs iOS 16 / macOS 13; on iOS 15.5 its delegate crashes."""

SUPPORTED = tuple(
    name for name, version in SPECIFICATION_VERSIONS.items() if version >= RUNTIME_FLOOR
)


def family(system: str) -> str:
    """Return the family of a system: ``iOS`` of ``iOS18``."""
    return system.rstrip("0123456789_")


def oldest(version: int, of: str = "iOS") -> str:
    """Return the oldest system of family ``of`` that supports this specification version."""
    return next(
        name
        for name, found in SPECIFICATION_VERSIONS.items()
        if family(name) == of and found >= version
    )


def named(version: int) -> str:
    """Return the systems of a specification version, for messages: ``iOS18 / macOS15``."""
    return f"{oldest(version)} / {oldest(version, 'macOS')}"
