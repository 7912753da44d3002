"""model -> evaluation -> report: what a trained network is worth on patients that it has not seen.

classify      run folder + store -> evaluation/predictions.parquet, evaluation/metrics.json
report        run folder -> one HTML file that needs nothing else
"""
