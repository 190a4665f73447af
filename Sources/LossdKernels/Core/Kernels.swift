import LossdKernelTable

/// This build's kernels for its type.
public func makeKernelTable() -> KernelTable {
  KernelTable(
    softmax: { softmaxRows(bound($0), bound($1), $2, $3) },
    logSoftmax: { logSoftmaxRows(bound($0), bound($1), $2, $3) },
    softmaxBackward: { softmaxBackwardRows(bound($0), bound($1), bound($2), $3, $4) },
    logSoftmaxBackward: { logSoftmaxBackwardRows(bound($0), bound($1), bound($2), $3, $4) },
    softmaxGradient: { softmaxGradientRows(bound($0), bound($1), bound($2), $3, $4) },
    logSoftmaxGradient: { logSoftmaxGradientRows(bound($0), bound($1), bound($2), $3, $4) },
    sumOfExponentials: { rowSum(bound($0), $1, $2) },
    softmaxColumns: { softmaxColumns(bound($0), bound($1), $2, $3, $4) },
    logSoftmaxColumns: { logSoftmaxColumns(bound($0), bound($1), $2, $3, $4) },
    softmaxColumnsBackward: { softmaxColumnsBackward(bound($0), bound($1), bound($2), $3, $4, $5) },
    logSoftmaxColumnsBackward: {
      logSoftmaxColumnsBackward(bound($0), bound($1), bound($2), $3, $4, $5)
    },
    crossEntropy: { crossEntropyRows($0.assumingMemoryBound(to: CrossEntropyRows.self)) },
    crossEntropyOfProbabilities: {
      probabilityRows($0.assumingMemoryBound(to: ProbabilityRows.self))
    },
    exp: { expElements(bound($0), bound($1), $2) },
    log: { logElements(bound($0), bound($1), $2) },
    log1p: { log1pElements(bound($0), bound($1), $2) },
    sigmoid: { sigmoidElements(bound($0), bound($1), $2) },
    sigmoidBackward: { sigmoidBackwardElements(bound($0), bound($1), bound($2), $3) },
    binaryLogits: { binaryLogits($0.assumingMemoryBound(to: BinaryElements.self)) },
    binaryProbabilities: { binaryProbabilities($0.assumingMemoryBound(to: BinaryElements.self)) })
}

@inline(always)
private func bound(_ pointer: UnsafeRawPointer) -> Input {
  pointer.assumingMemoryBound(to: Scalar.self)
}

@inline(always)
private func bound(_ pointer: UnsafeRawPointer?) -> Input? {
  pointer?.assumingMemoryBound(to: Scalar.self)
}

@inline(always)
private func bound(_ pointer: UnsafeMutableRawPointer) -> Output {
  pointer.assumingMemoryBound(to: Scalar.self)
}

#if !LOSSD_DOUBLE
  public func makeConversions() -> KernelBuild.Conversions {
    KernelBuild.Conversions(
      widenHalf: { widenHalf($0, $1.assumingMemoryBound(to: Float.self), $2) },
      narrowHalf: { narrowHalf($0.assumingMemoryBound(to: Float.self), $1, $2) },
      widenBFloat: { widenBFloat($0, $1.assumingMemoryBound(to: Float.self), $2) },
      narrowBFloat: { narrowBFloat($0.assumingMemoryBound(to: Float.self), $1, $2) })
  }
#endif
