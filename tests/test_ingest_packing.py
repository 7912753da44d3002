"""A source keeps every fact through its bytes, and equal sources have equal bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.ingest.packing import pack_source, unpack_source
from pyrad.records import Cut, Lut, PixelElement, PixelFormat, Segments, Source, Window

numbers = st.integers(0, 1 << 40)
reals = st.floats(allow_nan=False)
words = st.text(st.characters(), max_size=8)  # surrogates, too: undecodable bytes of a path
facts = st.fixed_dictionaries(
    {
        "archive": numbers,
        "path": words,
        "kind": st.sampled_from(["dicom", "raster", "npy"]),
        "rows": numbers,
        "columns": numbers,
        "dtype": st.sampled_from(["uint8", "int16"]),
    },
    optional={
        "uid": words,
        "labels": st.lists(words).map(tuple),
        "windows": st.lists(st.builds(Window, center=reals, width=reals)).map(tuple),
        "voi_lut": st.builds(Lut, first=numbers, bits=numbers, entries=st.binary()),
        "cut": st.builds(Cut, rows=numbers, columns=numbers, keep=st.tuples(*[numbers] * 4)),
        "segments": st.builds(Segments, archive=numbers, path=words, frames=st.tuples(numbers)).map(
            lambda it: (it,)
        ),
        "form": st.builds(
            PixelFormat, element=st.builds(PixelElement, keyword=words, offset=numbers, length=st.none())
        ),
        "outlines": st.lists(st.lists(st.tuples(reals, reals)).map(tuple)).map(tuple),
        "spacing_mm": st.tuples(reals, reals),
        "kept": st.dictionaries(words, words),
        "lossy": st.booleans(),
    },
)


@given(facts)
def test_a_source_comes_back_as_it_was(its):
    source = Source(**its)
    back = unpack_source(pack_source(source))
    assert back == source
    assert [*map(type, back)] == [*map(type, source)]
    for kind, values in ((Window, back.windows), (Segments, back.segments)):
        assert all(type(value) is kind for value in values)
    assert back.form is None or type(back.form.element) is PixelElement
    assert back._replace(frame=7) == source._replace(frame=7)


@given(facts)
@settings(max_examples=50)
def test_equal_sources_have_equal_bytes(its):
    """Whatever objects they share, and wherever they come from."""
    packed = pack_source(Source(**its))
    assert pack_source(unpack_source(packed)) == packed
    shared, own = ("a study", b"a study".decode())
    assert shared is not own
    one, other = (Source(**its)._replace(study=shared, series=series) for series in (shared, own))
    assert pack_source(one) == pack_source(other)
