import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// The memory of results has been others' before, and is sent as it lies.
@Suite struct GapTests {
  /// Where results may lie.
  enum Place: CaseIterable {
    case payload, inputs, elsewhere
  }

  private struct Request {
    var name: String
    var type: DataType
    var shape: [Int64]
    var outputs: [Int]
    var reduction: String?
    var hasProbabilities = false
  }

  /// Functions whose target is a class of each row.
  private static let ofIndices = [
    "cross_entropy", "nll_loss", "generalized_cross_entropy", "softmax_focal_loss",
    "poly1_cross_entropy", "arcface_loss", "cosface_loss", "asymmetric_loss_single_label",
    "multi_margin_loss",
  ]
  static let shapes: [[Int64]] = [
    [1], [3], [0], [1, 1], [3, 5], [0, 4], [4, 0], [2, 17], [5, 3, 7], [1025],
  ]
  /// What is cut into several units of work, chunks and passes.
  static let largeShapes: [[Int64]] = [[1, 70_001], [1, 600, 20], [3, 4099]]

  @Test(
    "every byte of the results' memory is a result's, written by this call, or zero",
    arguments: [DataType.float32, .float64, .float16, .bfloat16])
  func gaps(type: DataType) throws {
    var compared = 0
    for entry in try catalogueEntries() {
      let implemented = entry.outputs.indices.filter { entry.outputs[$0].flags & 2 == 0 }
      for shape in GapTests.shapes + GapTests.largeShapes {
        let isLarge = GapTests.largeShapes.contains(shape)
        let all = (1 << implemented.count) - 1
        for mask in (isLarge ? all : 1)...all {
          let outputs = implemented.filter { mask & (1 << implemented.firstIndex(of: $0)!) != 0 }
          let isLoss = entry.attribute(named: "reduction") != nil
          for reduction in isLoss ? isLarge ? ["none"] : ["none", "mean", "sum"] : [nil] {
            for hasProbabilities in entry.name == "cross_entropy" ? [false, true] : [false] {
              let request = Request(
                name: entry.name, type: type, shape: shape, outputs: outputs.shuffled(),
                reduction: reduction, hasProbabilities: hasProbabilities)
              for place in isLarge ? [.payload] : Place.allCases {
                compared += try compare(entry, request, place)
              }
            }
          }
        }
      }
    }
    #expect(compared > 1000)
  }

  private func prepare(
    _ entry: FunctionEntry, _ request: Request, _ place: Place
  ) throws(StatusError) -> PreparedCall {
    let call = PreparedCall(entry)
    func elements(_ type: DataType, _ shape: [Int64]) -> AlignedBuffer {
      let count = Int(shape.reduce(1, *))
      let buffer = AlignedBuffer.zeroed(count: count * type.byteSize)
      // 0 or 0.5: a logit, a probability, a target.
      for index in 0..<count where index % 3 == 1 {
        switch type {
        case .float32: buffer.base.storeBytes(of: 0.5, toByteOffset: index * 4, as: Float.self)
        case .float64: buffer.base.storeBytes(of: 0.5, toByteOffset: index * 8, as: Double.self)
        case .float16: buffer.base.storeBytes(of: 0.5, toByteOffset: index * 2, as: Float16.self)
        case .bfloat16:
          buffer.base.storeBytes(
            of: BFloat16(0.5 as Float), toByteOffset: index * 2, as: BFloat16.self)
        default: break
        }
      }
      return buffer
    }
    _ = try call.setInput(
      0, request.type, request.shape, bytes: elements(request.type, request.shape))
    if entry.kind == .loss {
      let isIndex = GapTests.ofIndices.contains(request.name) && !request.hasProbabilities
      var shape = request.shape
      if isIndex { shape.remove(at: shape.count == 1 ? 0 : 1) }
      let isList = request.name == "multilabel_margin_loss"
      let type = isIndex || isList ? DataType.int64 : request.type
      _ = try call.setInput(1, type, shape, bytes: elements(type, shape))
    }
    for (index, value) in [("reduction", request.reduction)] {
      guard let value else { continue }
      let bytes = Array(value.utf8)
      var failure: StatusError?
      bytes.withUnsafeBytes { bytes in
        do throws(StatusError) {
          try call.evaluation.request.setAttribute(entry.attribute(named: index)!, .string(bytes))
        } catch { failure = error }
      }
      if let failure { throw failure }
    }
    for output in request.outputs { try call.evaluation.request.want(output) }
    if place == .inputs { call.evaluation.request.ownInputs = .max }
    return call
  }

  private func compare(
    _ entry: FunctionEntry, _ request: Request, _ place: Place
  ) throws -> Int {
    var elsewhere: [AlignedBuffer] = []
    func results(_ poison: UInt8) throws(StatusError) -> (bytes: [UInt8], isResult: [Bool])? {
      let call = try prepare(entry, request, place)
      let evaluation = call.evaluation
      try evaluation.makePlan()
      if place == .elsewhere {
        // Every second result goes to memory of the request's.
        let counts = evaluation.request.wantedOutputs.indices.map {
          evaluation.result($0).view.byteCount
        }
        for position in counts.indices where position % 2 == 1 {
          let buffer = AlignedBuffer(count: counts[position])
          buffer.bytes.initializeMemory(as: UInt8.self, repeating: poison)
          elsewhere.append(buffer)
          evaluation.request.place(position, at: buffer.base, count: counts[position])
        }
        try evaluation.makePlan()
      }
      let memory = try call.run(poison: poison)
      let bytes = UnsafeRawBufferPointer(rebasing: memory.bytes[..<evaluation.plan.resultBytes])
      var isResult = [Bool](repeating: false, count: bytes.count)
      var all = Array(bytes)
      for position in evaluation.request.wantedOutputs.indices {
        let (view, offset, _) = evaluation.result(position)
        guard let data = view.data, view.byteCount > 0 else { continue }
        if data >= memory.base && data < memory.base + bytes.count {
          for index in offset..<offset + view.byteCount { isResult[index] = true }
        } else {
          // Behind the rest, so that they are compared too.
          all += Array(UnsafeRawBufferPointer(start: data, count: view.byteCount))
          isResult += [Bool](repeating: true, count: view.byteCount)
        }
      }
      if place == .payload { #expect(evaluation.plan.payloadBytes == evaluation.plan.resultBytes) }
      withExtendedLifetime((call, memory)) {}
      return (all, isResult)
    }
    let first: (bytes: [UInt8], isResult: [Bool])?
    do throws(StatusError) { first = try results(0xA5) } catch {
      // Class indices without a class.
      #expect(error.code == .invalidArgument, "\(request): \(error)")
      return 0
    }
    let second = try results(0x5A)
    guard let first, let second else { return 0 }
    #expect(first.bytes == second.bytes, "\(request) \(place): a byte is what was there before")
    let leaked = first.bytes.indices.first { !first.isResult[$0] && first.bytes[$0] != 0 }
    #expect(leaked == nil, "\(request) \(place): byte \(leaked ?? 0) of a gap is not zero")
    return 1
  }
}

extension FunctionEntry {
  enum Kind { case activation, loss }
  var kind: Kind { function.pointee.kind == 2 ? .loss : .activation }

  func attribute(named name: String) -> Int? {
    Array(name.utf8).withUnsafeBytes { attribute(named: $0) }
  }
}
