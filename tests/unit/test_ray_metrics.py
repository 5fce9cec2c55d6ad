"""Ray's metrics on our page: summed over workers, few labels."""

from __future__ import annotations

from actors.telemetry.ray_metrics import Sums, add_up, rendered

NODE = """# HELP ray_tasks Current number of tasks
# TYPE ray_tasks gauge
ray_tasks{Name="a",State="RUNNING",WorkerId="1"} 2.0
ray_tasks{Name="b \\"x\\", }",State="RUNNING",WorkerId="2"} 3.0
ray_tasks{Name="b",State="FAILED",WorkerId="2"} 1.0
ray_tasks_other{State="RUNNING"} 7.0
ray_node_mem_used{ip="10.0.0.1",SessionName="s"} 5e+09
ray_serve_num_http_requests_total{application="api",route="/x"} 4.0
"""


def test_samples_are_summed_over_what_is_endless() -> None:
    sums: Sums = {}
    add_up(NODE, sums)
    add_up(NODE.replace("10.0.0.1", "10.0.0.2"), sums)

    assert rendered(sums).decode().splitlines() == [
        "# TYPE ray_node_mem_used gauge",
        'ray_node_mem_used{ip="10.0.0.1"} 5000000000.0',
        'ray_node_mem_used{ip="10.0.0.2"} 5000000000.0',
        "# TYPE ray_serve_num_http_requests_total counter",
        'ray_serve_num_http_requests_total{application="api"} 8.0',
        "# TYPE ray_tasks gauge",
        'ray_tasks{State="FAILED"} 2.0',
        'ray_tasks{State="RUNNING"} 10.0',
    ]
