"""What looks wrong with an image or a result, in words a clinician understands, each with the slice to look at.

`findings` asks in this order and says the most important first: is it an image of the right modality (`image`) and kind
(`kind`), is anything missing or on the wrong side (`place`), is a segment cut, in pieces, too large or too small
(`shape`), and where was the network unsure of itself (`unsure`; by the model's `estimator`, from `facts` of its
probabilities). `first` says where a correction would change most. `beat` looks at all phases of a heart beat, `gather`
says what is wrong with several of them once, and `words` puts slice numbers and names into sentences.
"""
