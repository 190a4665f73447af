import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdServer
import LossdTensor
import LossdWire

/// The engine in this process, with the built-in functions: what --embedded asks instead of a
/// daemon.
struct EmbeddedEngine {
  private let registry = Registry()

  init() throws(StatusError) { try registry.add(cataloguePlugin()) }

  /// All functions, or the one of this name.
  func functions(named name: String?) throws(StatusError) -> [FunctionDescription] {
    let all = registry.table.entries.map(FunctionDescription.init)
    guard let name else { return all }
    guard let one = all.first(where: { $0.name == name }) else {
      throw StatusError(.notFound, "no function named `\(name)`" + registry.table.didYouMean(name))
    }
    return [one]
  }

  func evaluate(
    _ function: String, inputs: [(name: String, tensor: Tensor)],
    attributes: [String: AttributeValue], outputs: [String]
  ) throws(StatusError) -> [(name: String, tensor: Tensor)] {
    let results = try Evaluator(registry).evaluate(
      function, inputs: Dictionary(inputs.map { ($0.name, $0.tensor) }, uniquingKeysWith: { $1 }),
      attributes: attributes, outputs: outputs)
    let order = outputs.isEmpty ? Array(results.keys) : outputs
    return order.compactMap { name in results[name].map { (name, $0) } }
  }
}
