# A job that exits with 0 without having made output_model: success without a result must be a failure.
print("nothing to do", flush=True)
