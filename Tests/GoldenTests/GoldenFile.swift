import Foundation
import LossdEngine
import LossdPluginKit
import LossdTensor

/// NAME.json and NAME.bin of Tests/Golden, as make_golden.py writes them.
struct GoldenFile {
  /// One call: what to send, and torch's results or refusal.
  struct Case: Decodable {
    var function: String
    var inputs: [String: Int]
    var attributes: [String: Attribute]?
    /// Output: torch's result, the truth, the largest term (-1: none).
    var outputs: [String: [Int]]?
    /// Output: the kinds of torch's result, in runs.
    var kinds: [String: String]?
    var refusal: String?
    var refused: [String]?

    enum CodingKeys: String, CodingKey {
      case function = "f"
      case inputs = "i"
      case attributes = "a"
      case outputs = "o"
      case kinds = "k"
      case refusal = "r"
      case refused = "w"
    }
  }

  struct Attribute: Decodable {
    var value: AttributeValue

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let bool = try? container.decode(Bool.self) {
        value = .bool(bool)
      } else if let int = try? container.decode(Int64.self) {
        value = .int(int)
      } else if let float = try? container.decode(Double.self) {
        value = .float(float)
      } else {
        let text = try container.decode(String.self)
        // JSON has no infinities.
        let infinities = ["inf": Double.infinity, "-inf": -Double.infinity]
        value = infinities[text].map { .float($0) } ?? .string(text)
      }
    }
  }

  private struct Index: Decodable {
    var tensors: [[Int]]
    var cases: [Case]
  }

  struct Malformed: Error {}

  /// The repository's Tests/Golden.
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Golden")

  /// The files of results beside torch's.
  static let values = ["values", "elementwise", "operands", "rows", "classes"]

  let cases: [Case]
  let tensors: [Tensor]

  init(_ name: String) throws {
    let index = try JSONDecoder().decode(
      Index.self, from: Data(contentsOf: GoldenFile.folder.appendingPathComponent(name + ".json")))
    let data = try Data(contentsOf: GoldenFile.folder.appendingPathComponent(name + ".bin"))
    let buffer = AlignedBuffer(count: data.count)
    data.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    tensors = try index.tensors.map {
      guard $0.count >= 2, let type = DataType(rawValue: UInt32($0[0])) else { throw Malformed() }
      return Tensor(dataType: type, shape: Array($0[2...]), buffer: buffer, offset: $0[1])
    }
    cases = index.cases
  }

  /// What is needed to repeat a case by hand.
  func text(_ row: Case) -> String {
    let inputs = row.inputs.sorted { $0.key < $1.key }.map {
      "\($0.key) \(tensors[$0.value].dataType) \(tensors[$0.value].shape)"
    }
    let attributes = (row.attributes ?? [:]).sorted { $0.key < $1.key }.map {
      "\($0.key)=\($0.value.value)"
    }
    return "\(row.function): \(inputs.joined(separator: ", ")); "
      + attributes.joined(separator: ", ")
  }
}

extension Evaluator {
  /// Runs a golden case.
  func evaluate(_ golden: GoldenFile, _ row: GoldenFile.Case, _ outputs: [String]) throws
    -> [String: Tensor]
  {
    try evaluate(
      row.function, inputs: row.inputs.mapValues { golden.tensors[$0] },
      attributes: (row.attributes ?? [:]).mapValues(\.value), outputs: outputs)
  }
}
