import LossdKernelTable

/// This build's kernels.
public func makeKernelTable() -> KernelTable {
  #if LOSSD_AVX512
    let name = "avx512"
  #elseif LOSSD_FMA
    let name = "avx2"
  #else
    let name = "baseline"
  #endif
  return KernelTable(
    name: name, softmax: { softmaxRows($0, $1, $2, $3) },
    logSoftmax: { logSoftmaxRows($0, $1, $2, $3) },
    softmaxBackward: { softmaxBackwardRows($0, $1, $2, $3, $4) },
    logSoftmaxBackward: { logSoftmaxBackwardRows($0, $1, $2, $3, $4) },
    softmaxGradient: { softmaxGradientRows($0, $1, $2, $3, $4) },
    logSoftmaxGradient: { logSoftmaxGradientRows($0, $1, $2, $3, $4) },
    softmaxColumns: { softmaxColumns($0, $1, $2, $3, $4) },
    logSoftmaxColumns: { logSoftmaxColumns($0, $1, $2, $3, $4) },
    softmaxColumnsBackward: { softmaxColumnsBackward($0, $1, $2, $3, $4, $5) },
    logSoftmaxColumnsBackward: { logSoftmaxColumnsBackward($0, $1, $2, $3, $4, $5) },
    crossEntropy: { crossEntropyRows($0.assumingMemoryBound(to: CrossEntropyRows.self)) },
    sigmoid: { sigmoidElements($0, $1, $2) },
    sigmoidBackward: { sigmoidBackwardElements($0, $1, $2, $3) },
    binaryLogits: { binaryLogits($0.assumingMemoryBound(to: BinaryElements.self)) },
    binaryProbabilities: { binaryProbabilities($0.assumingMemoryBound(to: BinaryElements.self)) },
    isProbability: { isProbability($0, $1) },
    widenHalf: { widenHalf($0, $1, $2) },
    narrowHalf: { narrowHalf($0, $1, $2) }, widenBFloat: { widenBFloat($0, $1, $2) },
    narrowBFloat: { narrowBFloat($0, $1, $2) })
}
