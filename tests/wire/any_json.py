"""What an agent could say: any bytes, and JSON that looks nearly like what it should say."""

import msgspec
from hypothesis import strategies as st

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
NAMES = """
    id config alias api_key status port pid error_message retry_count supported_endpoints backend_type
    model model_id labels model_type served_model_name context_size type data instance instances
    instance_id timestamp seq line level host_name message host_id busy phase memory used_gb total_gb
    percent entries version service supported_backends disk filter name url running_instance_count
""".split()  # noqa: SIM905  it reads better
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner),
    max_leaves=12,
)
bodies = st.binary(max_size=40) | values.map(msgspec.json.encode)
