import CLossdPlugin
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// What functions add up does not depend on how their rows were cut.
@Suite struct OrderFreeTests {
  private static let classes = 7

  /// Numbers that any function takes, of magnitudes that make the order of a sum matter; and what
  /// else some inputs want.
  private static func number(
    _ function: String, _ input: String, _ generator: inout SeededGenerator
  ) -> Double {
    func any(_ numbers: [Double]) -> Double { numbers.randomElement(using: &generator)! }
    let small = Double.random(in: 0.001...0.999, using: &generator)
    switch (function, input) {
    case ("hinge_embedding_loss", "target"), ("soft_margin_loss", "target"),
      ("margin_ranking_loss", "target"), ("cosine_embedding_loss", "target"),
      ("siglip_loss", "target"):
      return any([-1, 1])
    case ("binary_cross_entropy", "input"), ("kl_div", "target"): return small
    case ("arcface_loss", "input"), ("cosface_loss", "input"): return 2 * small - 1
    case (_, "input"), (_, "input1"), (_, "input2"), (_, "anchor"), (_, "positive"),
      (_, "negative"):
      return (2 * small - 1) * any([1e-3, 1, 1, 20])
    default: return small
    }
  }

  /// A data set for a function: a shape and elements for each input that is cut or kept.
  private struct DataSet {
    var rows: Int
    /// nil: the input is not sent.
    var inputs: [(shape: [Int64], values: [Double], isCut: Bool, type: DataType)?] = []

    init?(_ entry: FunctionEntry, _ rows: Int, _ type: DataType, _ generator: inout SeededGenerator)
    {
      self.rows = rows
      let columns = Int64(OrderFreeTests.classes)
      // One number a row, where the function is elementwise.
      let first = entry.inputs[0]
      let isWide = first.flags & UInt32(LOSSD_INPUT_CLASSES) != 0 || Bool.random(using: &generator)
      var hasRows = false
      for index in 0..<entry.inputs.count {
        let input = entry.inputs[index]
        let name = String(cString: input.name)
        let isRequired = input.flags & UInt32(LOSSD_INPUT_REQUIRED) != 0
        let isRows = input.flags & UInt32(LOSSD_INPUT_ROWS) != 0
        let isCut = isRows || input.flags & UInt32(LOSSD_INPUT_BROADCAST) != 0
        guard isRequired || name == "weight" && Bool.random(using: &generator) else {
          inputs.append(nil)
          continue
        }
        if index == 0 { hasRows = isCut }
        let isLabels = isRows && input.data_types & (1 << DataType.float32.rawValue) == 0
        let isLists = entry.name == "multilabel_margin_loss" && name == "target"
        let own: DataType = isLabels ? .int64 : type
        guard input.data_types & (1 << own.rawValue) != 0 else { return nil }
        let isPerRow =
          isLabels && !isLists || !isWide
          || entry.name == "cosine_embedding_loss" && name == "target"
        let isRowVector = ["cosine_embedding_loss", "triplet_margin_loss"].contains(entry.name)
        var shape: [Int64] = isCut ? [Int64(rows)] : []
        if !isPerRow || isRowVector && name != "target" || !isCut { shape.append(columns) }
        let count = Int(shape.reduce(1, *))
        let values = (0..<count).map { place in
          if isLists { return place % Int(columns) < 2 ? Double(place % 5) : -1 }
          return isLabels
            ? Double(Int64.random(in: 0..<columns, using: &generator))
            : OrderFreeTests.number(entry.name, name, &generator)
        }
        inputs.append((shape, values, isCut, own))
      }
      if !hasRows { return nil }
    }

    /// The sums of some of its rows.
    func sums(_ entry: FunctionEntry, _ range: Range<Int>) throws -> Accumulator {
      let call = PreparedCall(entry)
      for (index, input) in inputs.enumerated() {
        guard let input else { continue }
        let width = input.isCut ? input.values.count / rows : 0
        let values =
          input.isCut
          ? Array(input.values[range.lowerBound * width..<range.upperBound * width]) : input.values
        var shape = input.shape
        if input.isCut { shape[0] = Int64(range.count) }
        let tensor =
          switch input.type {
          case .int64: Tensor(values.map { Int64($0) })
          case .float64: Tensor(values)
          case .float16: Tensor(values.map { Float16($0) })
          case .bfloat16: Tensor(values.map { BFloat16($0) })
          default: Tensor(values.map { Float($0) })
          }
        _ = try call.setInput(index, input.type, shape, bytes: tensor.buffer)
      }
      call.evaluation.request.wantDefault()
      try call.evaluation.makePlan()
      _ = try call.run(poison: 0xFF)
      return call.evaluation.progress.accumulator
    }
  }

  @Test(
    "any cut into batches and any order of merging give the same sums",
    arguments: [DataType.float32, .float64, .float16, .bfloat16])
  func everyFunction(_ type: DataType) throws {
    var generator = SeededGenerator(UInt64.random(in: 0...UInt64.max))
    var tried: Set<String> = []
    for entry in try catalogueEntries() where entry.isOrderFree {
      for rows in [1, 40, 3000] {
        guard let data = DataSet(entry, rows, type, &generator) else { continue }
        tried.insert(entry.name)
        let whole = try data.sums(entry, 0..<rows)
        #expect(whole.values[0].isFinite, "\(entry.name), \(type): a test of NaN tests nothing")
        for _ in 0..<3 {
          var cuts = (0..<Int.random(in: 0...8, using: &generator)).map { _ in
            Int.random(in: 0...rows, using: &generator)
          }
          cuts = ([0, rows] + cuts).sorted()
          var parts = try zip(cuts, cuts.dropFirst()).map { try data.sums(entry, $0..<$1) }
          while parts.count > 1 {
            let part = parts.remove(at: .random(in: parts.indices, using: &generator))
            try parts[.random(in: parts.indices, using: &generator)].merge(part, entry)
          }
          #expect(
            parts[0].sums.map(\.bytes) == whole.sums.map(\.bytes),
            "\(entry.name), \(type), \(rows) rows cut at \(cuts)")
        }
      }
    }
    #expect(tried.count >= 25, "\(tried.sorted())")
  }

  @Test("every loss of the catalogue says that its sums are free of the order")
  func declared() throws {
    for entry in try catalogueEntries() {
      let isLoss = entry.function.pointee.kind == UInt32(LOSSD_KIND_LOSS)
      #expect(entry.isOrderFree == isLoss, "\(entry.name)")
    }
  }
}
