// LossdCatalogue: the functions that lossd starts with, each a plugin function like a stranger's. Elementwise ones are a
// formula of the kernels and a declaration; the others are by themselves the scalar reference, float64 arithmetic
// whatever the storage type, rounded once, and Vector/ hands what the kernels take to these.
import CLossdPlugin
import LossdKernels
import LossdPluginKit

/// The instruction set of the vector kernels that the built-in functions run on in this process: `avx512`,
/// `avx2`, `baseline`, or `reference` for float64 arithmetic alone.
public var catalogueKernels: String { Kernels.name }

/// The built-in plugin: one for the process, whose declarations are made once, by whichever thread asks first.
public func cataloguePlugin() -> UnsafePointer<lossd_plugin> { catalogue }

/// Immutable once it is made.
nonisolated(unsafe) private let catalogue = makePlugin(
  name: "catalogue", version: "0.1.0",
  functions: rows + classLosses + rowFunctions + activations + elementLosses)

private var rows: [UnsafePointer<lossd_function>] {
  [
    makeFunction(Softmax.self), makeFunction(LogSoftmax.self), makeFunction(CrossEntropy.self),
    makeFunction(NLLLoss.self), makeFunction(MultilabelSoftMarginLoss.self),
  ]
}

private var classLosses: [UnsafePointer<lossd_function>] {
  [
    makeFunction(GeneralizedCrossEntropy.self), makeFunction(SoftmaxFocalLoss.self),
    makeFunction(Poly1CrossEntropy.self), makeFunction(AsymmetricLossSingleLabel.self),
    makeFunction(ArcFaceLoss.self), makeFunction(CosFaceLoss.self),
    makeFunction(MultiMarginLoss.self), makeFunction(MultilabelMarginLoss.self),
    makeFunction(CTCLoss.self),
  ]
}

private var rowFunctions: [UnsafePointer<lossd_function>] {
  [
    makeFunction(Softmin.self), makeFunction(LogSumExpFunction.self),
    makeFunction(Normalize.self), makeFunction(CosineSimilarity.self),
    makeFunction(PairwiseDistance.self), makeFunction(CosineEmbeddingLoss.self),
    makeFunction(TripletMarginLoss.self),
  ]
}

private var activations: [UnsafePointer<lossd_function>] {
  [
    makeFunction(Sigmoid.self), makeFunction(Tanh.self), makeFunction(Relu.self),
    makeFunction(Relu6.self), makeFunction(HardTanh.self), makeFunction(Threshold.self),
    makeFunction(LeakyRelu.self), makeFunction(RRelu.self), makeFunction(Elu.self),
    makeFunction(Selu.self), makeFunction(Celu.self), makeFunction(Gelu.self),
    makeFunction(Silu.self), makeFunction(Mish.self), makeFunction(Softplus.self),
    makeFunction(LogSigmoid.self), makeFunction(Softsign.self), makeFunction(Tanhshrink.self),
    makeFunction(HardSigmoid.self), makeFunction(HardSwish.self), makeFunction(HardShrink.self),
    makeFunction(SoftShrink.self), makeFunction(Erf.self), makeFunction(Erfc.self),
    makeFunction(Ndtr.self), makeFunction(Log1p.self), makeFunction(Expm1.self),
    makeFunction(Exp2.self), makeFunction(Logit.self), makeFunction(Entr.self),
    makeFunction(LogNdtr.self), makeFunction(Sinc.self), makeFunction(PRelu.self),
    makeFunction(Glu.self), makeFunction(XLogY.self), makeFunction(XLog1py.self),
  ]
}

private var elementLosses: [UnsafePointer<lossd_function>] {
  [
    makeFunction(BinaryCrossEntropy.self), makeFunction(BinaryCrossEntropyWithLogits.self),
    makeFunction(L1Loss.self), makeFunction(MSELoss.self), makeFunction(SmoothL1Loss.self),
    makeFunction(HuberLoss.self), makeFunction(LogCoshLoss.self), makeFunction(QuantileLoss.self),
    makeFunction(KLDivLoss.self), makeFunction(PoissonNLLLoss.self),
    makeFunction(SoftMarginLoss.self), makeFunction(HingeEmbeddingLoss.self),
    makeFunction(GaussianNLLLoss.self), makeFunction(MarginRankingLoss.self),
    makeFunction(SigmoidFocalLoss.self), makeFunction(AsymmetricLoss.self),
    makeFunction(SiglipLoss.self),
  ]
}
