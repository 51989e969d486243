"""Checks and makes International Bank Account Numbers (ISO 13616).

Responsible for the country's length and the mod 97 check digits, not for whether the account exists. Pure functions,
called by the batch reader and the batch generator.
"""

from __future__ import annotations

import re

# The SWIFT IBAN registry: the whole length of an IBAN by country.
LENGTH_BY_COUNTRY = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip

_SHAPE = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]+")


def iban_problem(iban: str) -> str | None:
    """Says what is wrong with an IBAN in its electronic form (capitals, no spaces), or None where it is right."""
    if _SHAPE.fullmatch(iban) is None:
        return f"IBAN {iban!r} is not two capital letters, two digits, then capital letters and digits without spaces"
    length_expected = LENGTH_BY_COUNTRY.get(iban[:2])
    if length_expected is None:
        return f"IBAN {iban!r} has the unknown country code {iban[:2]!r}"
    if len(iban) != length_expected:
        return f"IBAN {iban!r} has {len(iban)} characters; {iban[:2]} has {length_expected}"
    if _remainder(iban) != 1:
        return f"IBAN {iban!r} has wrong check digits (mod 97)"
    return None


def iban_with_check_digits(country: str, account: str) -> str:
    """Builds the IBAN of a country code and the country's own account number (capitals and digits)."""
    return f"{country}{98 - _remainder(f'{country}00{account}'):02d}{account}"


def _remainder(iban: str) -> int:
    rearranged = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97
