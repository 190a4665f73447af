// LossdCatalogue: the functions that lossd starts with, each a plugin function like a stranger's. By itself
// it is the scalar reference, float64 arithmetic whatever the storage type, rounded once; Vector/ hands what
// the kernels take to these.
import CLossdPlugin
import LossdKernels
import LossdPluginKit

/// The instruction set of the vector kernels that the built-in functions run on in this process: `avx512`,
/// `avx2`, `baseline`, or `reference` for the scalar code alone.
public var catalogueKernels: String { Kernels.name }

/// The built-in plugin: one for the process, whose declarations are made once, by whichever thread asks first.
public func cataloguePlugin() -> UnsafePointer<lossd_plugin> { catalogue }

/// Immutable once it is made.
nonisolated(unsafe) private let catalogue = makePlugin(
  name: "catalogue", version: "0.1.0",
  functions: [
    makeFunction(Sigmoid.self), makeFunction(Softmax.self), makeFunction(LogSoftmax.self),
    makeFunction(Gelu.self), makeFunction(BinaryCrossEntropy.self),
    makeFunction(BinaryCrossEntropyWithLogits.self), makeFunction(CrossEntropy.self),
    makeFunction(NLLLoss.self), makeFunction(MultilabelSoftMarginLoss.self),
    makeFunction(SmoothL1Loss.self),
  ])
