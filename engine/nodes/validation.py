"""Placeholder while the module is being written."""

import msgspec


class ValidationReport(msgspec.Struct, frozen=True):
    findings: tuple[str, ...] = ()

    @property
    def blocking(self) -> tuple[str, ...]:
        return ()


def validate(frame, spec, name, references):
    return ValidationReport()
