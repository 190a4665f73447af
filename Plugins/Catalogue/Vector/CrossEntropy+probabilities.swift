import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension CrossEntropyFunction {
  /// Whether the vector kernels compute this: tensors of one type, without the target's gradient. float64 is
  /// left to the reference: over few positions its mean is to be within an ulp.
  static func isVectorOfProbabilities(_ call: Call, _ layout: ClassLayout) -> Bool {
    guard Kernels.chosen != nil, !call.wants(ClassPlaces.gradientOfProbabilities),
      layout.classes > 0,
      let type = call.input(ClassPlaces.input)?.dataType, type != .float64
    else { return false }
    return call.input(ClassPlaces.target)?.dataType == type
      && (call.input(ClassPlaces.weight)?.dataType ?? type) == type
  }

  static func runVectorOfProbabilities(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let reference = ProbabilityPosition(call, state)
    var block = ClassBlock(chunk.scratch)
    let tiles = Tiles(build, input)
    let perPosition = Reduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    let isStreamed = Streaming.isWorthwhile(input.count, input.dataType)
    var losses = CompensatedSum()
    var positions = 0
    try state.units.eachRun(chunk.range, limit: ClassBlock.positions) {
      first, count throws(StatusError) in
      block.setAll(count)
      if call.wants(ClassPlaces.gradient) {
        block.setScales(call, first, weightSum: Double(state.layout.positions))
      }
      let start = state.layout.start(first)
      var rows = ProbabilityRows(
        x: tiles.direct(input, start), target: tiles.direct(target, start),
        gradient: call.output(ClassPlaces.gradient).map { tiles.direct($0, start) },
        rows: state.units.layout(count, size: state.layout.classes),
        scales: UnsafePointer(block.scales), scale: block.scale, losses: block.losses,
        classWeights: call.input(ClassPlaces.weight).map { UnsafeRawPointer(tiles.direct($0, 0)) },
        smoothing: call.attributes.float(ClassPlaces.smoothing), scratch: block.kernelScratch,
        isStreamed: isStreamed)
      tiles.kernels.crossEntropyOfProbabilities(&rows)
      // Infinities, NaN and overflows are the reference's.
      if block.hasExtremes(tiles, wantsGradient: call.wants(ClassPlaces.gradient)) {
        for index in 0..<count
        where tiles.isExtreme(block.losses[index])
          || call.wants(ClassPlaces.gradient) && tiles.isExtreme(block.scale(index))
        {
          block.losses[index] = reference.evaluate(first + index)
        }
      }
      block.finish(&losses, perPosition, first)
      positions += count
    }
    if call.wants(ClassPlaces.gradient) { tiles.kernels.settle() }
    chunk.sums[Sums.losses] += losses.value
    chunk.sums[Sums.weights] += Double(positions)
  }
}
