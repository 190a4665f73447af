import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension SoftmaxFunction {
  static var formula: RowFormulaID { isLogarithmic ? .logSoftmax : .softmax }

  /// Bytes.
  static func vectorScratch(_ type: DataType, _ layout: RowLayout) -> Int {
    StridedRows.scratchBytes(
      size: layout.size, isContiguous: layout.inner == 1, isDouble: type == .float64)
  }

  /// How many tensors like the input are written.
  static func resultCount(_ call: Call) -> Int {
    (call.wants(ActivationPlaces.output) ? 1 : 0) + (call.wants(ActivationPlaces.gradient) ? 1 : 0)
  }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: SoftmaxState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = source(call) else { return }
    let tiles = Tiles(build, input)
    let size = state.layout.size
    let isStreamed = Streaming.isWorthwhile(
      input.count, input.dataType, results: resultCount(call))
    try state.units.eachRun(chunk.range, limit: .max) { row, count throws(StatusError) in
      let start = state.layout.start(row)
      var rows = RowCall(
        formula, x: tiles.direct(input, start),
        y: call.input(ActivationPlaces.upstream).map {
          UnsafeRawPointer(tiles.direct($0, start))
        },
        values: call.output(ActivationPlaces.output).map { tiles.direct($0, start) },
        gradient: call.output(ActivationPlaces.gradient).map { tiles.direct($0, start) },
        rows: state.units.layout(count, size: size), scratch: chunk.scratch,
        isStreamed: isStreamed)
      tiles.kernels.rows(&rows)
    }
    if isStreamed { tiles.kernels.settle() }
  }
}
