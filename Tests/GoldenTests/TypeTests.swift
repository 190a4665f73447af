import Foundation
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Result types, promotion and refusals over every pair of data types, function by function.
@Suite struct TypeTests {
  private enum Dimension: Decodable {
    case type(String)
    case size(Int)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let size = try? container.decode(Int.self) {
        self = .size(size)
      } else {
        self = .type(try container.decode(String.self))
      }
    }
  }

  /// function, inputs, attributes, torch's result type, ours.
  private struct Row: Decodable {
    var function: String
    var inputs: [String: [Dimension]]
    var attributes: [String: GoldenFile.Attribute]
    var torch: String?
    var ours: String?

    init(from decoder: any Decoder) throws {
      var container = try decoder.unkeyedContainer()
      function = try container.decode(String.self)
      inputs = try container.decode([String: [Dimension]].self)
      attributes = try container.decode([String: GoldenFile.Attribute].self)
      torch = try container.decodeIfPresent(String.self)
      ours = try container.decodeIfPresent(String.self)
    }
  }

  private struct Table: Decodable {
    var rows: [Row]
    var table: String
  }

  private let table: Table

  init() throws {
    let file = GoldenFile.folder.appendingPathComponent("types.json")
    table = try JSONDecoder().decode(Table.self, from: Data(contentsOf: file))
  }

  private func zeros(_ dimensions: [Dimension]) throws -> Tensor {
    var shape: [Int] = []
    var type: DataType?
    for dimension in dimensions {
      switch dimension {
      case .type(let name): type = DataType(name: name)
      case .size(let size): shape.append(size)
      }
    }
    let dataType = try #require(type)
    let buffer = AlignedBuffer.zeroed(count: shape.reduce(dataType.byteSize, *))
    return Tensor(dataType: dataType, shape: shape, buffer: buffer)
  }

  @Test("the result has torch's type, or is refused as torch refuses it")
  func resultTypes() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    let evaluator = Evaluator(registry)
    for row in table.rows {
      var result: String?
      do {
        let outputs = try evaluator.evaluate(
          row.function, inputs: try row.inputs.mapValues(zeros),
          attributes: row.attributes.mapValues(\.value))
        result = outputs.values.first?.dataType.description
      } catch let error as StatusError {
        #expect(error.code == .invalidArgument, "\(row): \(error)")
      }
      #expect(result == row.ours, "\(row)")
    }
  }

  @Test("docs/functions.md has the table of these types")
  func documented() throws {
    let page = try String(
      contentsOf: GoldenFile.folder.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("docs/functions.md"), encoding: .utf8)
    let parts = page.components(separatedBy: "<!-- types: begin -->\n")
    let section = try #require(parts.last).components(separatedBy: "<!-- types: end -->")[0]
    #expect(parts.count == 2 && section == table.table, "run Tests/Golden/make_golden.py")
  }
}
