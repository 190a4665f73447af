import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The softmax layout: `size` elements a row, `inner` apart; row r starts at `start(r)`.
struct RowLayout: BitwiseCopyable {
  var rows = 1
  var size = 1
  var inner = 1

  init(_ shape: UnsafeBufferPointer<Int64>, dim: Int64) throws(StatusError) {
    let rank = max(shape.count, 1)
    guard dim >= -Int64(rank), dim < Int64(rank) else {
      throw invalid("dim is \(dim), outside [\(-rank), \(rank - 1)] of input \(shapeText(shape))")
    }
    if shape.isEmpty { return }
    let axis = Int(dim < 0 ? dim + Int64(rank) : dim)
    size = Int(shape[axis])
    for (index, length) in shape.enumerated() where index != axis {
      rows *= Int(length)
      if index > axis { inner *= Int(length) }
    }
  }

  func start(_ row: Int) -> Int { row / inner * size * inner + row % inner }
}

/// log(sum(exp(x))) of a row in two parts, as softmax needs them.
struct LogSumExp {
  private(set) var max = -Double.infinity
  /// sum(exp(x - max)).
  private(set) var sum = 1.0
  private let logSum: Double

  /// `element` is called with 0 ..< count, twice.
  @inline(__always)
  init(count: Int, _ element: (Int) -> Double) {
    var top = 0
    for index in 0..<count {
      let x = element(index)
      if x > max || x.isNaN { (max, top) = (x, index) }
      if x.isNaN { break }
    }
    // The largest element is 1 exactly and stays out of the sum, so that log1p keeps what lies beside
    // it: the loss of a certain row is its other classes alone.
    var others = CompensatedSum()
    for index in 0..<count where index != top { others.add(exp(element(index) - max)) }
    // As torch: one infinity or NaN spoils the row.
    let rest = max.isFinite || count == 0 ? others.value : .nan
    sum = 1 + rest
    logSum = log1p(rest)
  }

  @inline(__always) func logProbability(_ x: Double) -> Double { x - max - logSum }
  @inline(__always) func probability(_ x: Double) -> Double { exp(x - max) / sum }
}

/// exp(x) / sum(exp(x)) along `dim`; torch.nn.functional.softmax.
enum Softmax: SoftmaxFunction {
  static let name = "softmax"
  static let summary = "exp(x) / sum(exp(x)) along dim"
  static let isLogarithmic = false
}

/// The logarithm of softmax, without leaving the logarithm; torch.nn.functional.log_softmax.
enum LogSoftmax: SoftmaxFunction {
  static let name = "log_softmax"
  static let summary = "log(softmax(input)) along dim"
  static let isLogarithmic = true
}

protocol SoftmaxFunction: Function where State == SoftmaxState {
  static var name: String { get }
  static var summary: String { get }
  static var isLogarithmic: Bool { get }
  /// Whether it is the softmax of -input: see Rows/Softmin.swift.
  static var isNegated: Bool { get }
}

extension SoftmaxFunction {
  static var isNegated: Bool { false }
}

struct SoftmaxState: BitwiseCopyable {
  var layout: RowLayout
  /// What the input is cast to first.
  var type: DataType
  /// The vector kernels compute it, in these units.
  var isVector: Bool
  var units: RowUnits
  /// How long rows across memory are cut for the kernels.
  var blocks: BlockLayout?
  /// How rows too long for one unit of work are cut.
  var long: LongLayout?
  /// The first pass but that over -input, which comes before, and that which turns the gradient's sign; -1: there is none.
  var firstPass = 0
  var lastPass = -1
}

extension SoftmaxFunction {
  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .activation, summary: summary,
      inputs: [
        InputDeclaration(
          "input", isNegated ? integersAndFloats : DataType.allCases, isRequired: true,
          batching: .rows, help: "any shape"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration(
          "output", isDefault: true, hasRows: true, mayOverwrite: ActivationPlaces.input,
          help: "like input, of type dtype"),
        OutputDeclaration(
          "grad.input", hasRows: true, mayOverwrite: ActivationPlaces.input,
          help: "gradient with respect to input"),
      ],
      attributes: [
        AttributeDeclaration(
          "dim", .int, default: .int(-1), role: .dimension, help: "the dimension that sums to 1"),
        AttributeDeclaration(
          "dtype", .string, default: nil, choices: floatTypes.map(\.description),
          help: "cast input to this first; integers need it"),
      ])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> SoftmaxState {
    guard let input = call.input(ActivationPlaces.input) else { throw invalid("no input") }
    let attributes = call.attributes
    var type = input.dataType
    if attributes.isPresent(SoftmaxPlaces.dtype) {
      type =
        DataType(name: String(decoding: attributes.string(SoftmaxPlaces.dtype), as: UTF8.self))
        ?? type
    }
    guard type.isFloatingPoint else {
      throw invalid("input is \(type), expected a floating-point type, or dtype to be given")
    }
    let layout = try RowLayout(input.shape, dim: attributes.int(SoftmaxPlaces.dim))
    try checkUpstream(call.input(ActivationPlaces.upstream), "grad.output", type, input.shape)
    // Two results would both be made from what one of them has overwritten.
    let isSeparate = call.wants(ActivationPlaces.output) && call.wants(ActivationPlaces.gradient)
    if call.wants(ActivationPlaces.output) {
      plan.setOutput(ActivationPlaces.output, type, shape: input.shape, isSeparate: isSeparate)
    }
    if call.wants(ActivationPlaces.gradient) {
      guard input.dataType.isFloatingPoint else {
        throw invalid("input is \(input.dataType), which has no gradient")
      }
      plan.setOutput(
        ActivationPlaces.gradient, input.dataType, shape: input.shape, isSeparate: isSeparate)
    }
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    let source = isNegated && !call.wants(ActivationPlaces.gradient) ? type : input.dataType
    let isVector = Kernels.chosen != nil && type == source && layout.size > 0
    let units = RowUnits(rows: layout.rows, size: layout.size, inner: layout.inner)
    var state = SoftmaxState(layout: layout, type: type, isVector: isVector, units: units)
    if input.count > 0 && isVector {
      state.blocks = BlockLayout(rows: layout.rows, size: layout.size, inner: layout.inner)
    }
    if isNegated && input.count > 0 { state.firstPass = planNegation(&plan, input.count) + 1 }
    if let blocks = state.blocks {
      planBlocks(call, &plan, blocks)
    } else if input.count > 0 && layout.size > LongLayout.rowMax(isVector: isVector) {
      let long = LongLayout(rows: layout.rows, size: layout.size, inner: layout.inner)
      planLong(call, &plan, long, type)
      state.long = long
    } else if input.count > 0 && isVector {
      plan.setScratch(bytes: vectorScratch(type, layout))
      plan.addPass(
        units: units.count, unitCost: units.cost(size: layout.size, element: 1, row: 10))
    } else if input.count > 0 {
      plan.addPass(units: layout.rows, unitCost: 10 + 20 * Double(layout.size))
    }
    if isNegated && input.count > 0 && call.wants(ActivationPlaces.gradient) {
      state.lastPass = planNegation(&plan, input.count)
    }
    return state
  }

  static func run(_ call: Call, _ state: SoftmaxState, _ chunk: Chunk) throws(StatusError) {
    let pass = chunk.pass - state.firstPass
    if pass < 0 || chunk.pass == state.lastPass {
      negate(call, chunk, isFirst: pass < 0)
      return
    }
    guard let input = source(call) else { return }
    if let blocks = state.blocks, let kernels = Kernels.chosen {
      try runBlocks(kernels, call, blocks, chunk, pass: pass)
      return
    }
    if let long = state.long {
      try runLong(call, state, long, chunk, pass: pass)
      return
    }
    if state.isVector, let kernels = Kernels.chosen {
      try runVector(kernels, call, state, chunk)
      return
    }
    let isCast = state.type != input.dataType
    let (size, inner) = (state.layout.size, state.layout.inner)
    for row in chunk.range {
      let start = state.layout.start(row)
      func element(_ index: Int) -> Double {
        let x = input[start + index * inner]
        return isCast ? rounded(x, state.type) : x
      }
      let sums = LogSumExp(count: size, element)
      if let output = call.output(ActivationPlaces.output) {
        for index in 0..<size {
          output[start + index * inner] =
            isLogarithmic ? sums.logProbability(element(index)) : sums.probability(element(index))
        }
      }
      guard let gradient = call.output(ActivationPlaces.gradient) else { continue }
      let upstream = call.input(ActivationPlaces.upstream)
      var dot = CompensatedSum()
      for index in 0..<size {
        let g = upstream.map { $0[start + index * inner] } ?? 1
        dot.add(isLogarithmic ? g : g * sums.probability(element(index)))
      }
      for index in 0..<size {
        let g = upstream.map { $0[start + index * inner] } ?? 1
        let p = sums.probability(element(index))
        gradient[start + index * inner] = isLogarithmic ? g - p * dot.value : p * (g - dot.value)
      }
    }
  }
}
