"""JSON Lines: a record in every line, of which one field is the text."""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecoder

from pipeline.data.readers.base import Tally
from pipeline.data.readers.text import TextReader
from pipeline.data.tokenizer import Ids
from pipeline.data.utf8 import parse_json
from pipeline.errors import UserError

PARSE = JSONDecoder().raw_decode


class JsonLinesReader(TextReader):
    """A file of JSON Lines, plain or compressed; the text is in ``text_field``, an empty line has none."""

    form = "jsonl"
    document = "line"  # whatever corpus.document says, which is for plain texts

    def _texts(self, contents: list[bytes], places: Ids, tally: Tally, *, is_utf8: bool) -> Sequence[bytes | None]:
        if not is_utf8:
            return super()._texts(contents, places, tally, is_utf8=False)
        field = self.settings.text_field
        found: list[bytes | None] = []
        for line in contents:
            try:  # the fast way, for nearly all lines
                text = line.decode()
                record, end = PARSE(text)
                if end == len(text):
                    found.append(record[field].encode())
                    continue
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                pass
            found.append(self._text(line, int(places[len(found)]), tally))
        return found

    def _record(self, content: bytes, place: int, tally: Tally) -> bytes:
        text = self._field(self.as_utf8(content, place, tally), place)
        try:
            return text.encode()
        except UnicodeEncodeError:  # JSON can contain half of a surrogate pair, which is not text
            return self.as_utf8(text.encode(errors="surrogatepass"), place, tally)

    def _field(self, line: bytes, place: int) -> str:
        field = self.settings.text_field
        if not line.strip():
            return ""
        try:
            record = parse_json(line)
        except ValueError as error:
            raise UserError(f"{self.name}: the line at byte offset {place:,} is not JSON: {error}") from None
        if not isinstance(record, dict) or field not in record:
            there = f"there are {', '.join(record)}" if isinstance(record, dict) else "it is not an object"
            raise UserError(
                f"{self.name}: the record at byte offset {place:,} has no field {field!r} (corpus.text_field; {there})"
            )
        value = record[field]
        if not isinstance(value, str):
            raise UserError(f"{self.name}: {field} of the record at byte offset {place:,} is not a text")
        return value
