"""Charts are worked out on the server: every shape lies inside the drawing and stands for its number."""

from hypothesis import given
from hypothesis import strategies as st

from audience_core.redis.activity import Minute
from segment_api.console.charts import BARS, BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, bar_chart, line_chart

NOW_MS = 1_790_000_000_123
NOW_MINUTE_MS = NOW_MS // 60_000 * 60_000


def test_without_samples_there_is_no_chart() -> None:
    assert line_chart([], 5, NOW_MS) is None
    assert bar_chart([], NOW_MS) is None
    assert bar_chart([Minute(NOW_MINUTE_MS - BARS * 60_000, 5, 5)], NOW_MS) is None


def test_a_count_holds_until_it_changes() -> None:
    chart = line_chart([(NOW_MS - 7_200_000, 0), (NOW_MS - 3_600_000, 10)], 10, NOW_MS)
    assert chart is not None
    floor, ceiling, middle = HEIGHT - BOTTOM, TOP, LEFT + (WIDTH - LEFT - RIGHT) / 2
    assert chart.line == (
        f"{LEFT:.1f},{floor:.1f} {middle:.1f},{floor:.1f} {middle:.1f},{ceiling:.1f} "
        f"{WIDTH - RIGHT:.1f},{ceiling:.1f} {WIDTH - RIGHT:.1f},{ceiling:.1f}"
    )
    assert chart.summary == "Between 0 and 10 visitors over the last 2 h; 10 now."


def test_of_many_values_within_a_pixel_the_newest_is_drawn_and_held() -> None:
    begin = NOW_MS - 7 * 86_400_000
    samples = [(begin + n * 1000, n) for n in range(100)]
    chart = line_chart(samples, 99, NOW_MS)
    assert chart is not None
    points = chart.line.split()
    assert len(points) < 10
    top = float(points[-1].split(",")[1])
    assert float(points[-2].split(",")[1]) == top  # 99 was held until now


def test_enters_stand_above_the_line_and_exits_below_it() -> None:
    chart = bar_chart([Minute(NOW_MINUTE_MS, 10, 5)], NOW_MS)
    assert chart is not None
    (bar,) = chart.bars
    assert bar.enters_y == TOP
    assert (bar.enters, bar.exits) == (chart.middle - TOP, (chart.middle - TOP) / 2)
    assert chart.summary == "10 enters and 5 exits within the last hour."


@given(
    st.lists(st.tuples(st.integers(NOW_MS - 7 * 86_400_000, NOW_MS), st.integers(0, 10**9)), max_size=30),
    st.integers(0, 10**9),
)
def test_every_point_lies_inside_the_drawing(samples: list[tuple[int, int]], count: int) -> None:
    chart = line_chart(sorted(samples), count, NOW_MS)
    if chart is None:
        assert not samples
        return
    for point in chart.line.split():
        x, y = map(float, point.split(","))
        assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 10**7), st.integers(0, 10**7)), max_size=30))
def test_every_bar_lies_inside_the_drawing(given_minutes: list[tuple[int, int, int]]) -> None:
    minutes = [Minute(NOW_MINUTE_MS - ago * 60_000, enters, exits) for ago, enters, exits in given_minutes]
    chart = bar_chart(minutes, NOW_MS)
    for bar in chart.bars if chart else []:
        assert bar.x >= LEFT
        assert bar.x + bar.width <= WIDTH - RIGHT
        assert bar.enters_y >= TOP - 0.1
        assert chart is not None
        assert chart.middle + bar.exits <= HEIGHT - BOTTOM + 0.1
