from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from icekeel.http.counters import Counters, exposition


def test_the_text_is_prometheus_and_holds_what_was_counted() -> None:
    counters = Counters()
    for seconds in (0.0004, 0.0005, 0.003, 9.0):
        counters.count("predict", 200, seconds)
    counters.count("predict", 422, 0.0001)
    counters.answered("late", "late-1", "champion", 'odd "value"\n')
    counters.degraded("late", "stale:Scans")
    counters.found("late", ["unseen_pair:a+b", "unseen_pair:a+c", "out_of_range:size:above"], "refused")
    counters.pushed("Scans", 3, 1, 0)
    counters.swapped("late")
    text = exposition([counters.tally], {"ready": ("Whether it is ready.", 1.0)}).decode()
    samples = {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["icekeel_http_requests_total", "predict", "200"] == 4
    assert samples["icekeel_guard_findings_total", "unseen_pair", "late", "refused"] == 1
    assert samples["icekeel_guard_findings_total", "out_of_range", "late", "refused"] == 1
    assert samples["icekeel_http_requests_total", "predict", "422"] == 1
    assert samples["icekeel_http_seconds_bucket", "predict", "0.0005"] == 3
    assert samples["icekeel_http_seconds_bucket", "predict", "0.004"] == 4
    assert samples["icekeel_http_seconds_bucket", "predict", "+Inf"] == 5
    assert samples["icekeel_http_seconds_count", "predict"] == 5
    assert abs(samples["icekeel_http_seconds_sum", "predict"] - 9.004) < 1e-9
    assert samples["icekeel_answers_total", "champion", "late", 'odd "value"\n', "late-1"] == 1
    assert samples["icekeel_degraded_total", "late", "stale:Scans"] == 1
    assert samples["icekeel_events_total", "quarantined", "Scans"] == 1
    assert samples["icekeel_swaps_total", "late"] == 1
    assert samples["icekeel_ready",] == 1
