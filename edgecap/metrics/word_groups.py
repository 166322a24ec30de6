"""Words that name persons, animals and colours in captions, by the groups that they may mean: plain data.

A word that stands in several groups may mean any of them: "kid" a boy or a girl, "turquoise" blue or green. The words
are those of Flickr8k's captions, with some of their kin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

Groups = Mapping[str, frozenset[str]]  # word -> the groups that it may mean


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_YOUNG = " child children kid kids toddler toddlers baby babies infant infants"
_GROWN = " adult adults"

PERSONS = {
    "man": "man men guy guys gentleman gentlemen businessman businessmen policeman policemen fireman firemen cowboy "
    "cowboys father dad husband groom grandfather male males" + _GROWN,
    "woman": "woman women lady ladies mother mom wife bride bridesmaid bridesmaids grandmother policewoman female "
    "females" + _GROWN,
    "boy": "boy boys son brother brothers male males" + _YOUNG,
    "girl": "girl girls daughter sister sisters female females" + _YOUNG,
}
# They name a person and do not say which.
ANY_PERSON = _words(
    "person persons people human humans someone somebody individual individuals teenager teenagers teen teens youth "
    "youths youngster youngsters player players teammate teammates opponent opponents rider riders biker bikers "
    "bicyclist bicyclists bicycler cyclist cyclists motorcyclist motorcyclists skateboarder skateboarders skater "
    "skaters rollerblader snowboarder snowboarders skier skiers surfer surfers windsurfer wakeboarder waterskier "
    "swimmer swimmers diver divers climber climbers hiker hikers backpacker runner runners jogger joggers racer racers "
    "driver drivers kayaker kayakers rafter rafters athlete athletes footballer wrestler wrestlers gymnast goalie "
    "pitcher batter quarterback referee umpire jockey jockeys fisherman fishermen cheerleader cheerleaders dancer "
    "dancers performer performers musician musicians singer guitarist drummer artist clown officer officers soldier "
    "soldiers worker workers firefighter firefighters vendor chef waitress student students teacher photographer "
    "owner parent parents friend friends spectator spectators onlookers audience pedestrian pedestrians tourist "
    "tourists bystander bystanders passenger passengers participants competitor competitors crowd crowds"
)
# They may tell of a person, or of something else: a photo of which they were said is not one without persons.
PERSON_HINTS = _words(
    "group groups couple family team teams band trick he she him his her himself herself who face faces hand hands arm "
    "arms police fans crew pair members coach jumper santa redhead blonde blond brunette race racing riding"
)

ANIMALS = {
    "dog": "dog dogs puppy puppies pup pups hound hounds mutt canine canines terrier terriers poodle poodles greyhound "
    "greyhounds retriever retrievers collie collies beagle beagles labrador labradors lab labs shepherd shepherds "
    "husky huskies doberman dobermans pitbull pitbulls bulldog bulldogs dalmatian dalmation spaniel spaniels dachshund "
    "chihuahua rottweiler corgi schnauzer pug dane wolf wolves",
    "cat": "cat cats kitten kittens",
    "horse": "horse horses pony ponies foal colt bronco mule donkey donkeys zebra zebras",
    "cow": "cow cows bull bulls calf calves cattle ox oxen bison buffalo steer",
    "sheep": "sheep lamb lambs goat goats ram",
    "bird": "bird birds duck ducks goose geese swan swans pigeon pigeons seagull seagulls gull gulls parrot parrots "
    "chicken chickens rooster hen eagle hawk falcon owl heron flamingo flamingos pelican peacock turkey ostrich "
    "penguin penguins",
    "bear": "bear bears",
    "monkey": "monkey monkeys ape apes gorilla",
    "elephant": "elephant elephants",
    "camel": "camel camels llama llamas",
    "sea animal": "fish shark sharks dolphin dolphins whale whales seal seals",
    "rodent": "rabbit rabbits bunny squirrel squirrels hamster rat rats",
    "pig": "pig pigs",
    "deer": "deer antelope elk moose",
    "reptile": "turtle turtles lizard lizards snake snakes frog frogs alligator crocodile",
    "big cat": "lion lions tiger tigers leopard cheetah",
    "insect": "bee bees butterfly butterflies insect insects bug bugs",
}
ANY_ANIMAL = _words("animal animals pet pets creature creatures")
ANIMAL_HINTS = _words("leash muzzle muzzled muzzles paw paws tail fur furry rodeo jockey jockeys horseback")

COLOURS = {
    "red": "red maroon crimson scarlet burgundy",
    "pink": "pink magenta peach",
    "orange": "orange peach",
    "yellow": "yellow gold golden beige blond blonde",
    "green": "green lime olive turquoise teal aqua",
    "blue": "blue navy turquoise teal aqua",
    "purple": "purple violet lavender magenta maroon burgundy",
    "brown": "brown tan beige khaki golden chocolate bronze",
    "black": "black",
    "white": "white cream beige",
    "grey": "grey gray silver",
}
# Colours are compared where they are said of the same kind of thing.
COLOURED_THINGS = {
    "clothes": "shirt shirts tshirt jacket jackets coat coats top tops sweater sweaters sweatshirt hoodie jersey "
    "jerseys uniform uniforms outfit outfits dress dresses suit suits vest vests costume costumes clothes clothing "
    "blouse gown robe robes parka snowsuit wetsuit bikini swimsuit attire gear",
    "headgear": "hat hats cap caps helmet helmets headscarf bandanna bandana headband hood",
    "legwear": "pants shorts jeans skirt skirts trunks leggings",
    "animal": " ".join(
        [*ANIMALS.values(), *sorted(ANY_ANIMAL), "paw paws tail chest fur furred markings spots spotted"]
    ),
    "toy": "ball balls balloon balloons frisbee toy toys disc",
    "cycle": "bike bikes bicycle bicycles motorcycle motorcycles motorbike scooter",
    "boat": "boat boats kayak kayaks canoe canoes raft rafts",
    "car": "car cars truck trucks van jeep bus",
    "slide": "slide slides",
}
# Words between which and the colour before them stands another thing: "a man in red runs to a blue car".
BREAKS = _words(
    "a an the this that another his her its their in on at of to by with while who that is are was were wearing wears "
    "dressed standing stands sitting sits walking walks running runs playing plays holding holds jumping jumps riding "
    "rides looking looks through over into from near"
)

# Pairs of words that do not say what each of them says.
NOT_MEANT = frozenset(
    {
        ("hot", "dog"),
        ("hot", "dogs"),
        ("ice", "cream"),
        ("white", "water"),
        ("orange", "juice"),
        ("teddy", "bear"),
        ("teddy", "bears"),
        ("stuffed", "bear"),
        ("monkey", "bars"),
    }
)

# Words that say nothing of a photo by themselves.
FUNCTION_WORDS = _words(
    "a an the this that these those it its he him his she her they them their who which there is are was were be being "
    "has have does and or but as while in on at of to by with for from into onto through up down out over off near "
    "s t"
)


def word_groups(groups: Mapping[str, str], anything: frozenset[str] = frozenset()) -> Groups:
    """The groups of each word; none for the words of ``anything``."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for group, words in groups.items():
        for word in words.split():
            found[word].add(group)
    return {word: frozenset(of) for word, of in found.items()} | {word: frozenset() for word in anything - found.keys()}
