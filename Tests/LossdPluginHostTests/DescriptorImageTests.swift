import CLossdPlugin
import Glibc
import LossdCatalogue
import LossdEngine
import LossdTensor
import Testing

@testable import LossdPluginHost

@Suite struct DescriptorImageTests {
  private let catalogue = packed { DescriptorImage.pack(cataloguePlugin().pointee, into: &$0) }

  private func image(_ bytes: [UInt8]) throws -> DescriptorImage {
    try bytes.withUnsafeBytes { raw in
      var unpacker = Unpacker(raw)
      return try DescriptorImage(&unpacker)
    }
  }

  @Test("the catalogue's declarations arrive as they were sent")
  func roundTrip() throws {
    let image = try image(catalogue)
    try checkDescriptor(image.plugin.pointee)
    // Whatever a declaration says is in its bytes.
    #expect(packed { DescriptorImage.pack(image.plugin.pointee, into: &$0) } == catalogue)
    let original = cataloguePlugin().pointee
    #expect(image.plugin.pointee.function_count == original.function_count)
    for index in 0..<Int(original.function_count) {
      let (sent, got) = (
        try #require(original.functions[index]), try #require(image.plugin.pointee.functions[index])
      )
      #expect(String(cString: sent.pointee.name) == String(cString: got.pointee.name))
      #expect((sent.pointee.merge == nil) == (got.pointee.merge == nil))
      #expect((sent.pointee.finish == nil) == (got.pointee.finish == nil))
      // Its code is elsewhere: what is called by a mistake refuses.
      var error = lossd_error()
      #expect(got.pointee.plan?(nil, nil, &error) == LOSSD_INTERNAL)
      #expect(got.pointee.run?(nil, nil, &error) == LOSSD_INTERNAL)
    }
  }

  @Test("every cut is refused")
  func truncated() {
    for count in stride(from: 0, to: catalogue.count, by: 7) {
      #expect(throws: StatusError.self, "\(count) bytes") { try image(Array(catalogue[..<count])) }
    }
  }

  @Test("changed bytes are refused or are declarations that the registry can judge")
  func mutated() {
    var random = Random()
    var (refused, judged, taken) = (0, 0, 0)
    for round in 0..<3000 {
      var bytes = random.mutated(catalogue)
      if round % 3 == 0 { bytes = random.mutated(bytes) }
      guard let image = try? image(bytes) else {
        refused += 1
        continue
      }
      let registry = Registry()
      do {
        try registry.add(image.plugin, owner: Library(isElsewhere: true))
        taken += 1
        // What everybody may ask of an entry.
        for entry in registry.table.entries {
          _ = Evaluation(entry)
          _ = entry.defaultOutput
          for index in 0..<entry.accumulatorCount {
            _ = String(cString: entry.accumulatorName(index))
          }
          for index in 0..<entry.valueCount { _ = String(cString: entry.valueName(index)) }
        }
      } catch { judged += 1 }
    }
    #expect(
      refused > 0 && judged > 0 && taken > 0, "seed \(random.seed): \(refused), \(judged), \(taken)"
    )
  }
}
