// LossdCatalogue: the functions that lossd starts with, each a plugin function like a stranger's.
// This is the scalar reference: float64 arithmetic whatever the storage type, rounded once.
import CLossdPlugin
import LossdPluginKit

/// The built-in plugin.
public func cataloguePlugin() -> UnsafePointer<lossd_plugin> {
  makePlugin(
    name: "catalogue", version: "0.1.0",
    functions: [
      makeFunction(Sigmoid.self), makeFunction(Softmax.self), makeFunction(LogSoftmax.self),
      makeFunction(BinaryCrossEntropy.self), makeFunction(BinaryCrossEntropyWithLogits.self),
      makeFunction(CrossEntropy.self), makeFunction(NLLLoss.self),
      makeFunction(MultilabelSoftMarginLoss.self),
    ])
}
