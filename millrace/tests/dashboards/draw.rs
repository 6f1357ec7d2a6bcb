//! Not a test of the product: makes the data that the pictures in docs/dashboards.md are drawn from, by `grafana/render/draw`.
