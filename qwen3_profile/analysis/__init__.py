"""What records say: comparisons, savings, outliers and the verdict. Computes, prints nothing."""
