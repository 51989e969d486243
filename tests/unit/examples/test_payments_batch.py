"""The payments example: reading and refusing batch files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.payments.__main__ import main
from examples.payments.generate import fixed_cast, generate_batch, opening_books
from examples.payments.iban import LENGTH_BY_COUNTRY, iban_problem, iban_with_check_digits
from examples.payments.models import euros
from examples.payments.pain001 import (
    AMOUNT_CENTS_MAX,
    BatchRefusedError,
    Problem,
    parse_amount,
    read_batch,
    read_batch_file,
)

DATA = Path(__file__).parents[3] / "examples" / "payments" / "data"

# Two payments, one element a line where a test looks at the line.
SMALL = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09">
<CstmrCdtTrfInitn>
<GrpHdr>
<MsgId>M-1</MsgId>
<NbOfTxs>2</NbOfTxs>
<CtrlSum>30.50</CtrlSum>
</GrpHdr>
<PmtInf>
<PmtMtd>TRF</PmtMtd>
<NbOfTxs>2</NbOfTxs>
<CtrlSum>30.5</CtrlSum>
<Dbtr><Nm>Payer</Nm></Dbtr>
<DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct>
<CdtTrfTxInf>
<PmtId><EndToEndId>E-1</EndToEndId></PmtId>
<Amt><InstdAmt Ccy="EUR">10</InstdAmt></Amt>
<Cdtr><Nm>Smith &amp; Sons</Nm></Cdtr>
<CdtrAcct><Id><IBAN>GB82WEST12345698765432</IBAN></Id></CdtrAcct>
</CdtTrfTxInf>
<CdtTrfTxInf>
<PmtId><EndToEndId>E-2</EndToEndId></PmtId>
<Amt><InstdAmt Ccy="EUR">20.5</InstdAmt></Amt>
<Cdtr><Nm>Müller</Nm></Cdtr>
<CdtrAcct><Id><IBAN>NL91ABNA0417164300</IBAN></Id></CdtrAcct>
</CdtTrfTxInf>
</PmtInf>
</CstmrCdtTrfInitn>
</Document>
"""


def problems_of(document: str | bytes) -> list[Problem]:
    with pytest.raises(BatchRefusedError) as refused:
        read_batch(document.encode() if isinstance(document, str) else document)
    return refused.value.problems


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def test_a_right_file_gives_its_payments_in_whole_cents() -> None:
    batch = read_batch(SMALL.encode())
    assert batch.message_id == "M-1"
    assert [payment.amount_cents for payment in batch.payments] == [1000, 2050]
    assert batch.total_cents == 3050
    first, second = batch.payments
    assert (first.payment_id, first.end_to_end_id) == ("M-1:E-1", "E-1")
    assert first.creditor_name == "Smith & Sons"
    assert first.creditor_iban == "GB82WEST12345698765432"
    assert first.debtor_iban == "DE89370400440532013000"
    assert second.creditor_name == "Müller"


@pytest.mark.parametrize(
    ("document", "line", "reason"),
    [
        pytest.param(changed("</PmtInf>", "</PmtInfo>"), 27, "not well-formed XML", id="not well-formed"),
        pytest.param("", 1, "not well-formed XML: no element found", id="empty"),
        pytest.param(SMALL[: SMALL.index("<PmtMtd>")], 10, "not well-formed XML", id="cut off"),
        pytest.param(
            changed("<Document", '<!DOCTYPE x [<!ENTITY a "b">]>\n<Document'), 2, "DOCTYPE", id="entity declaration"
        ),
        pytest.param(changed("001.09", "001.03"), 2, "pain.001.001.03", id="wrong version"),
        pytest.param(changed(' xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"', ""), 2, "without namespace"),
        pytest.param(SMALL.replace("CstmrCdtTrfInitn", "CstmrPmtStsRpt"), 2, "'CstmrCdtTrfInitn' is missing"),
        pytest.param(changed("<MsgId>M-1</MsgId>", ""), 4, "'MsgId' is missing in 'GrpHdr'"),
        pytest.param(changed("<MsgId>M-1</MsgId>", "<MsgId/>"), 5, "'MsgId' is empty"),
        pytest.param(changed("<MsgId>M-1</MsgId>", "<MsgId>a</MsgId><MsgId>b</MsgId>"), 5, "stands 2 times"),
        pytest.param(changed("<NbOfTxs>2", "<NbOfTxs>3"), 6, "'NbOfTxs' says 3, but the batch has 2 transactions"),
        pytest.param(changed("<NbOfTxs>2</NbOfTxs>", ""), 4, "'NbOfTxs' is missing"),
        pytest.param(changed("<NbOfTxs>2", "<NbOfTxs>two"), 6, "'two', not a number"),
        pytest.param(
            changed("<CtrlSum>30.50", "<CtrlSum>30.51"), 7, "says 30.51, but the batch's amounts add up to 30.50"
        ),
        pytest.param(changed("<CtrlSum>30.50", "<CtrlSum>lots"), 7, "'lots', not a decimal number"),
        pytest.param(changed("<CtrlSum>30.50</CtrlSum>", ""), 4, "'CtrlSum' is missing"),
        pytest.param(changed("<CtrlSum>30.5<", "<CtrlSum>3<"), 12, "says 3, but the payment block's amounts"),
        pytest.param(changed(">TRF<", ">CHK<"), 9, "payment method 'CHK' is not supported"),
        pytest.param(changed("E-2", "E-1"), 22, "EndToEndId 'E-1' was used already on line 16"),
        pytest.param(changed("<EndToEndId>E-2</EndToEndId>", ""), 22, "'EndToEndId' is missing in 'PmtId'"),
        pytest.param(changed("E-2", "E" * 36), 22, "not 1 to 35 characters"),
        pytest.param(changed(">20.5<", "><"), 23, "the amount is missing"),
        pytest.param(changed('<InstdAmt Ccy="EUR">20.5</InstdAmt>', ""), 23, "'InstdAmt' is missing in 'Amt'"),
        pytest.param(changed(">20.5<", ">20.505<"), 23, "more than two decimals"),
        pytest.param(changed(">20.5<", ">-20.5<"), 23, "not more than zero"),
        pytest.param(changed(">20.5<", ">0.00<"), 23, "not more than zero"),
        pytest.param(changed(">20.5<", ">20,5<"), 23, "not a decimal number"),
        pytest.param(changed(">20.5<", ">1e3<"), 23, "not a decimal number"),
        pytest.param(changed(">20.5<", ">NaN<"), 23, "not a decimal number"),
        pytest.param(changed(">20.5<", ">1000000000.00<"), 23, "more than 999999999.99"),
        pytest.param(changed('Ccy="EUR">20.5', 'Ccy="USD">20.5'), 23, "currency 'USD' is refused"),
        pytest.param(changed(' Ccy="EUR">20.5', ">20.5"), 23, "no currency"),
        pytest.param(changed("<Nm>Müller</Nm>", ""), 24, "'Nm' is missing in 'Cdtr'"),
        pytest.param(changed("Müller", "x" * 141), 24, "longer than 140"),
        pytest.param(changed("NL91ABNA0417164300", "NL92ABNA0417164300"), 25, "wrong check digits"),
        pytest.param(changed("NL91ABNA0417164300", "NL91ABNA041716430"), 25, "has 17 characters; NL has 18"),
        pytest.param(changed("NL91ABNA0417164300", "ZZ91ABNA0417164300"), 25, "unknown country code 'ZZ'"),
        pytest.param(changed("DE89370400440532013000", "DE88370400440532013000"), 14, "DbtrAcct: IBAN"),
    ],
)
def test_each_broken_file_is_refused_with_the_line_and_the_reason(document: str, line: int, reason: str) -> None:
    (problem,) = problems_of(document)
    assert problem.line == line
    assert reason in problem.reason
    assert str(problem).startswith(f"line {line}: ")


def test_a_batch_without_payments_is_refused() -> None:
    start, end = SMALL.index("<CdtTrfTxInf>"), SMALL.rindex("</PmtInf>")
    problems = problems_of(SMALL[:start] + SMALL[end:])
    assert any(problem.line == 9 and "no 'CdtTrfTxInf'" in problem.reason for problem in problems)


def test_every_problem_of_a_file_is_listed_by_line() -> None:
    document = changed("E-2", "E-1").replace(">10<", ">ten<").replace("<NbOfTxs>2", "<NbOfTxs>9", 1)
    problems = problems_of(document)
    assert [problem.line for problem in problems] == [6, 17, 22]


def test_two_uses_of_an_end_to_end_id_on_one_line_are_noticed() -> None:
    problems = problems_of(SMALL.replace("\n", "").replace("E-2", "E-1"))
    assert [problem.reason for problem in problems] == ["EndToEndId 'E-1' was used already on line 1"]


def test_deep_nesting_is_refused() -> None:
    (problem,) = problems_of("\n".join(["<a>"] * 100 + ["</a>"] * 100))
    assert problem == Problem(33, "elements are nested deeper than 32 levels")


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("M-2")
    document = changed("<Document", f'<!DOCTYPE Document [<!ENTITY e SYSTEM "{secret}">]>\n<Document')
    (problem,) = problems_of(document.replace("M-1", "&e;"))
    assert "document type declaration" in problem.reason


def test_bytes_that_are_no_text_are_refused() -> None:
    (problem,) = problems_of(SMALL.encode("latin-1"))
    assert problem.line == 24
    assert "not well-formed" in problem.reason


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchRefusedError) as refused:
        read_batch_file(tmp_path / "none.xml")
    assert refused.value.problems == [Problem(0, "the file cannot be read: No such file or directory")]


def test_the_command_refuses_a_broken_file_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.xml"
    file.write_text(changed("E-2", "E-1").replace('Ccy="EUR">10<', 'Ccy="GBP">10<'))
    assert main([str(file), "--data", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "2 problems; no payment was started" in told.replace("\n", " ")
    assert "line 17: currency 'GBP' is refused; only EUR is accepted" in told
    assert "line 22: EndToEndId 'E-1' was used already on line 16" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--count", "0"], ["--count", "5", "some.xml"], ["--in-flight", "0"], ["--drop-share", "1"], ["--books", "/none"]],
)
def test_a_wrong_option_ends_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


@given(st.integers(min_value=1, max_value=AMOUNT_CENTS_MAX))
def test_every_amount_is_read_to_the_cent(cents: int) -> None:
    assert parse_amount(f"{cents // 100}.{cents % 100:02d}") == ("", cents)


@given(st.text(max_size=12))
def test_no_text_makes_the_amount_parser_fail(text: str) -> None:
    reason, cents = parse_amount(text)
    assert (cents is None) == bool(reason)


@pytest.mark.parametrize(
    "iban",
    ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947",
     "MT84MALT011000012345MTLCAST001S"],
)  # fmt: skip
def test_published_example_ibans_are_right(iban: str) -> None:
    assert iban_problem(iban) is None


@pytest.mark.parametrize(
    "iban", ["", "DE", "de89370400440532013000", "DE89 3704 0044 0532 0130 00", "DE8937040044053201300Ä"]
)
def test_an_iban_of_the_wrong_shape_is_refused(iban: str) -> None:
    assert "is not two capital letters" in (iban_problem(iban) or "")


@given(st.sampled_from(sorted(LENGTH_BY_COUNTRY)), st.data())
def test_a_made_iban_is_right_and_any_one_wrong_digit_is_noticed(country: str, data: st.DataObject) -> None:
    length = LENGTH_BY_COUNTRY[country] - 4
    account = data.draw(st.text("0123456789", min_size=length, max_size=length))
    iban = iban_with_check_digits(country, account)
    assert iban_problem(iban) is None
    position = data.draw(st.integers(2, len(iban) - 1))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != iban[position]]))
    assert "wrong check digits" in (iban_problem(iban[:position] + digit + iban[position + 1 :]) or "")


@pytest.mark.parametrize("count", [1, 19, 20, 300])
def test_a_generated_batch_passes_every_check(count: int) -> None:
    assert len(read_batch(generate_batch(count, 7).encode()).payments) == count


def test_the_generator_gives_the_same_bytes_for_the_same_seed() -> None:
    assert generate_batch(50, 3) == generate_batch(50, 3)
    assert generate_batch(50, 3) != generate_batch(50, 4)


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_the_generator_refuses_a_count_out_of_range(count: int) -> None:
    with pytest.raises(ValueError, match="the count must be 1 to 100,000"):
        generate_batch(count, 1)


def part_counts(count: int) -> list[int]:
    payments, cast = read_batch(generate_batch(count, 1).encode()).payments, fixed_cast()
    tests: list[Callable[[int], bool]] = [
        lambda index: payments[index].creditor_name in cast.sanctioned_names,
        lambda index: payments[index].debtor_iban in cast.poor,
        lambda index: payments[index].creditor_iban in cast.closed,
        lambda index: payments[index].creditor_iban in cast.unreachable,
    ]
    return [sum(map(test, range(count))) for test in tests]


def test_a_generated_batch_has_payments_that_fail_at_each_step() -> None:
    assert part_counts(20) == [1, 1, 1, 1]
    assert part_counts(1000) == [20, 20, 20, 10]


def test_the_shipped_files_are_what_the_generator_writes() -> None:
    assert (DATA / "batch-1000.xml").read_text(encoding="utf-8") == generate_batch(1000, 1)
    assert json.loads((DATA / "bank.json").read_text()) == opening_books()


@pytest.mark.parametrize(("cents", "text"), [(0, "0.00"), (5, "0.05"), (123456, "1,234.56"), (-250, "-2.50")])
def test_cents_are_written_as_euros(cents: int, text: str) -> None:
    assert euros(cents) == text
